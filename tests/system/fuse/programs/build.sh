# In a mount: several sources, a header, an archive, a program; build, run, change, build again. $1: a folder outside.
set -eu
command -v make >/dev/null && command -v g++ >/dev/null || { echo "no make or g++"; exit 77; }
cat >Makefile <<'MAKE'
program: main.o libparts.a
	g++ -o $@ main.o -L. -lparts
libparts.a: one.o two.o
	ar rcs $@ one.o two.o
%.o: %.cc parts.h
	g++ -O1 -c -o $@ $<
MAKE
echo 'int one(); int two();' >parts.h
printf '#include "parts.h"\nint one() { return 1; }\n' >one.cc
printf '#include "parts.h"\nint two() { return 2; }\n' >two.cc
printf '#include <cstdio>\n#include "parts.h"\nint main() { std::printf("%%d\\n", one() + two()); }\n' >main.cc
make -j2
[ "$(./program)" = 3 ]
make | grep -q "up to date"
sleep_free_newer=$(date -d '+2 seconds' '+%Y%m%d%H%M.%S')
printf '#include "parts.h"\nint two() { return 40; }\n' >two.cc
touch -t "$sleep_free_newer" two.cc
make
[ "$(./program)" = 41 ]
