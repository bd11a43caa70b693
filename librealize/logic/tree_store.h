#pragma once

#include "librealize/model/tree_store.h"
