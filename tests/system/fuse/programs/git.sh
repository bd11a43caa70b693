# In a mount: clone a repository, commit, branch, check. $1: a folder outside.
set -eu
command -v git >/dev/null || { echo "no git"; exit 77; }
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.org

git init -q -b main "$1/origin"
cd "$1/origin"
mkdir -p src/deep/er
i=0
while [ $i -lt 200 ]; do echo "line $i" >"src/file$i"; i=$((i + 1)); done
echo deep >src/deep/er/file
chmod +x src/file7
git add -A
git commit -q -m first
cd "$OLDPWD"

git clone -q "$1/origin" copy
cd copy
[ -z "$(git status --porcelain)" ]
git fsck --strict
echo more >>src/file3
rm src/file4
git mv src/deep src/moved
git add -A
git commit -q -m second
git checkout -q -b other HEAD~1
[ -f src/file4 ] && [ -f src/deep/er/file ]
git checkout -q main
[ ! -e src/file4 ] && [ -f src/moved/er/file ]
git gc -q
git fsck --strict
[ -z "$(git status --porcelain)" ]
git push -q origin main:pushed
