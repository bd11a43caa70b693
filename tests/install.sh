#!/usr/bin/env bash
# Installs what is missing for building and testing on Debian 12 and 13 and on Ubuntu, as root or through sudo.
#
#   tests/install.sh [build|tests|bench] [--list]
#
# build: compilers and libraries. tests (the default): also what the tests call. bench: also the ssh server that the
# benchmarks compare with; it is not in the other groups because Debian starts an installed ssh server at once.
# --list prints the missing packages and installs nothing.
#
# Where everything is there it does nothing, and needs neither network nor rights.
set -euo pipefail

group=tests
list_only=
for argument in "$@"; do
  case "$argument" in
    build|tests|bench) group=$argument ;;
    --list) list_only=1 ;;
    *) echo "usage: tests/install.sh [build|tests|bench] [--list]" >&2; exit 2 ;;
  esac
done

packages=(
  g++ meson ninja-build ccache pkg-config python3 capnproto
  libcapnp-dev libuv1-dev libsodium-dev libsqlite3-dev libfuse3-dev fuse3 libzstd-dev libutf8proc-dev libjemalloc-dev
  doctest-dev nlohmann-json3-dev
)
[ "$group" = build ] || packages+=(git make sqlite3 attr util-linux)
[ "$group" != bench ] || packages+=(rsync openssh-client openssh-server)

if ! command -v dpkg-query >/dev/null; then
  echo "This installs packages on Debian and Ubuntu only. README.md names the packages of other systems." >&2
  exit 1
fi

installed() {
  # A package that another one provides (pkgconf for pkg-config) counts too.
  dpkg-query -W -f '${db:Status-Status} ${Package}\n${db:Status-Status} ${Provides}\n' 2>/dev/null |
    sed -n 's/^installed //p' | tr ',' '\n' | sed 's/^ *//; s/ .*//; s/:.*//' | sort -u
}

# The sanitizer and fuzzer runtimes of clang sit in packages whose names differ between releases; what counts is
# whether a fuzz target links.
fuzzer_links() {
  command -v clang++ >/dev/null || return 1
  local folder result=0
  folder=$(mktemp -d)
  echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' >"$folder/a.cc"
  clang++ -fsanitize=fuzzer,address,undefined -o "$folder/a" "$folder/a.cc" >/dev/null 2>&1 || result=1
  rm -rf "$folder"
  return $result
}

missing=()
here=$(installed)
for package in "${packages[@]}"; do
  grep -qxF -- "$package" <<<"$here" || missing+=("$package")
done
needs_clang=
if [ "$group" != build ] && ! fuzzer_links; then needs_clang=1; fi

if [ -n "$list_only" ]; then
  [ ${#missing[@]} = 0 ] || printf '%s\n' "${missing[@]}"
  [ -z "$needs_clang" ] || echo clang
  exit 0
fi
if [ ${#missing[@]} = 0 ] && [ -z "$needs_clang" ]; then exit 0; fi

as_root=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "Packages are missing, and this is neither root nor is sudo here. As root:" >&2
    echo "  apt-get install ${missing[*]} ${needs_clang:+clang}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@" </dev/null
}

echo "Installing with apt-get: ${missing[*]} ${needs_clang:+clang and its runtimes}"
apt update
[ ${#missing[@]} = 0 ] || apt install -y --no-install-recommends "${missing[@]}"
if [ -n "$needs_clang" ]; then
  apt install -y --no-install-recommends clang
  if ! fuzzer_links; then
    # Debian splits the runtimes off: libclang-rt-dev follows the default clang, libclang-rt-N-dev is one release's.
    version=$(clang++ -dumpversion | cut -d. -f1)
    for package in libclang-rt-dev "libclang-rt-$version-dev" "libclang-common-$version-dev"; do
      [ -n "$(apt-cache madison "$package" 2>/dev/null)" ] || continue
      apt install -y --no-install-recommends "$package"
      if fuzzer_links; then break; fi
    done
  fi
  fuzzer_links || { echo "clang is here, but cannot link a fuzz target" >&2; exit 1; }
fi
echo "Installed."
