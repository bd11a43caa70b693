# In a mount: save as editors do. $1: a folder outside.
set -eu
# vim, backupcopy=no: rename away, write anew, remove the backup.
echo old >a; mv a a~; echo new >a; sync a; chmod --reference=a~ a; rm a~
[ "$(cat a)" = new ]
# vim, backupcopy=yes: copy, then truncate and write in place.
cp -p a a~; echo newer >a; rm a~
[ "$(cat a)" = newer ]
# most others: write a temporary file, sync, rename over.
echo newest >.a.tmp; sync .a.tmp; mv .a.tmp a
[ "$(cat a)" = newest ]
[ "$(ls -A)" = a ]
# vim probes whether it may create: a file named 4913.
echo probe >4913; rm 4913
echo more >>a
[ "$(cat a)" = "newest
more" ]
if command -v vim >/dev/null; then
  vim -u NONE -i NONE -n -es -c 'set backup writebackup' -c '%s/more/by vim/' -c 'wq' a </dev/null
  [ "$(tail -n 1 a)" = "by vim" ]
  rm -f a~
fi
[ "$(ls -A)" = a ]
