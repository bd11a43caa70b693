#!/bin/bash
# What bash offers, with a program in place of realize that knows two arenas.
set -u
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../../../frontends/cli/completion/realize.bash"

realize() {
  case "$*" in
    'arena list') printf 'docs    /home/u/docs\nmusic   (without a folder)\n' ;;
    'peer list') printf 'NAME  ADDRESS\ndesk  -\nlaptop  -\n' ;;
    'ls -- docs:') printf 'a file\nletters/\nplan.txt\n' ;;
    'ls -- docs:letters/') printf 'anna.txt\n' ;;
    'config') printf 'NAME  VALUE\nlisten  -\naudit  on\naudit_path  /x\n' ;;
    'config docs:') printf 'NAME  VALUE\nrest_ms  100\nrest_max_ms  10000\n' ;;
    '--state /s arena list') printf 'other  /x\n' ;;
  esac
}

failed=0
# complete_line "line": sets what readline would, for a cursor at the end.
offers() {
  local line=$1 expected=$2
  COMP_LINE=$line COMP_POINT=${#line}
  COMP_WORDS=() COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
  local word='' i c
  for ((i = 0; i < ${#line}; ++i)); do
    c=${line:i:1}
    case $c in
      ' ') [[ -n $word ]] && COMP_WORDS+=("$word"); word='' ;;
      : | =) [[ -n $word ]] && COMP_WORDS+=("$word"); COMP_WORDS+=("$c"); word='' ;;
      *) word+=$c ;;
    esac
  done
  # Right after a colon readline's current word is the colon itself.
  [[ -n $word || ${line: -1} == ' ' ]] && COMP_WORDS+=("$word")
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  _realize
  local got="${COMPREPLY[*]}"
  if [[ $got != "$expected" ]]; then
    echo "FAILED: '$line': expected '$expected', got '$got'"
    failed=1
  fi
}

offers 'realize st' 'stop status stat'
offers 'realize arena ' 'create join admit withdraw leave list rescan'
offers 'realize wait ' 'docs music'
offers 'realize wait d' 'docs'
offers 'realize --state /s wait ' 'other'
offers 'realize wait docs --t' '--timeout'
offers 'realize mark ' 'real unreal none'
offers 'realize cat docs:' 'a\ file letters/ plan.txt'
offers 'realize cat docs:pl' 'plan.txt'
offers 'realize cat docs:letters/an' 'letters/anna.txt'
offers 'realize mark real docs:le' 'letters/'
offers 'realize peer remove l' 'laptop'
offers 'realize arena admit docs ' 'desk laptop'
offers 'realize arena withdraw docs ' 'desk laptop'
offers 'realize invite --arena m' 'music'
offers 'realize config mu' 'music:'
offers 'realize config au' 'audit audit_path'
offers 'realize config docs: rest' 'rest_ms rest_max_ms'
exit $failed
