#include "frontends/cli/commands.h"
#include "frontends/cli/real_library.h"

int main(int argc, char** argv) {
  return realize::cli::runProgram("realize-mount", argc, argv, realize::cli::realLibrary());
}
