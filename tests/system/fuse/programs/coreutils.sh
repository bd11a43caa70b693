# In a mount: pack, copy, move, compare, remove. $1: a folder outside.
set -eu
mkdir -p "$1/tree/sub/deeper"
i=0
while [ $i -lt 100 ]; do echo "$i" >"$1/tree/sub/f$i"; i=$((i + 1)); done
head -c 3000000 /dev/urandom >"$1/tree/large"
ln -s ../large "$1/tree/sub/link"
touch -d '2001-02-03 04:05:06.789' "$1/tree/sub/f1"
chmod 0640 "$1/tree/sub/f2"

cp -a "$1/tree" copy
diff -r "$1/tree" copy
tar --format=posix -cf packed.tar copy
mkdir unpacked
tar -xf packed.tar -C unpacked
diff -r copy unpacked/copy
[ "$(stat -c %y unpacked/copy/sub/f1 | cut -c1-23)" = "2001-02-03 04:05:06.789" ]
[ "$(stat -c %a unpacked/copy/sub/f2)" = 640 ]
mv copy/sub moved
[ "$(find moved | wc -l)" = 103 ]
[ ! -e copy/sub ]
dd if="$1/tree/large" of=large bs=4096 conv=fsync 2>/dev/null
cmp "$1/tree/large" large
du -s . >/dev/null
rm -rf copy unpacked moved packed.tar large
[ -z "$(ls -A)" ]
