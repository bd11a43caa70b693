# bash completion for realize(1) and realize-mount(1)

# What the daemon knows, if one runs; quick, and silent where it does not. ${_realize_program[@]} is the program with
# the --state option of the line under completion.
_realize_arenas() {
  "${_realize_program[@]}" arena list 2>/dev/null | sed 's/  .*//'
}

_realize_peers() {
  "${_realize_program[@]}" peer list 2>/dev/null | sed -e 1d -e 's/  .*//'
}

# Names of settings: of the peer, or of the arena that $1 names with a colon.
_realize_settings() {
  "${_realize_program[@]}" config "$@" 2>/dev/null | sed -e 1d -e 's/  .*//'
}

# The arena paths that begin with $1, or arenas with a colon.
_realize_arena_paths() {
  local word=$1 folder
  if [[ $word != *:* ]]; then
    _realize_arenas | sed 's/$/:/'
    return
  fi
  folder=${word%"${word##*[:/]}"}
  "${_realize_program[@]}" ls -- "${folder}" 2>/dev/null | while IFS= read -r name; do printf '%s%s\n' "$folder" "$name"; done
}

# Adds the lines of stdin that begin with $1 to COMPREPLY, quoted.
_realize_offer() {
  local word=$1 line
  while IFS= read -r line; do
    [[ $line == "$word"* ]] || continue
    # Readline replaces only what follows the last colon, unless that has been taken out of the word breaks.
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then line=${line#"${word%"${word##*:}"}"}; fi
    COMPREPLY+=("$(printf '%q' "$line")")
  done
}

_realize_files() {
  local line
  while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen "$1" -- "$2")
  compopt -o filenames 2>/dev/null
}

# Puts together what readline has parted at colons and equal signs: words in ${_realize_words[@]}, the current one last.
_realize_line() {
  local text=${COMP_LINE:0:COMP_POINT}
  _realize_words=()
  local word stripped i
  for ((i = 0; i <= COMP_CWORD; ++i)); do
    word=${COMP_WORDS[i]}
    stripped=${text#"${text%%[! ]*}"}
    # No space before it on the line: it belongs to the word before.
    if ((i > 0)) && [[ $stripped == "$text" ]]; then
      _realize_words[${#_realize_words[@]} - 1]+=$word
    else
      _realize_words+=("$word")
    fi
    text=${stripped#"$word"}
  done
}

_realize() {
  COMPREPLY=()
  local _realize_words _realize_program
  _realize_line
  local current=${_realize_words[${#_realize_words[@]} - 1]}
  local previous='' command='' second='' arguments=0 i word
  ((${#_realize_words[@]} > 1)) && previous=${_realize_words[${#_realize_words[@]} - 2]}
  _realize_program=(realize)
  for ((i = 1; i < ${#_realize_words[@]} - 1; ++i)); do
    word=${_realize_words[i]}
    case $word in
      --state) _realize_program+=(--state "${_realize_words[i + 1]}"); ((++i)) ;;
      --state=*) _realize_program+=("$word") ;;
      --name | --listen | --arena | --expires | --since | --change | --timeout | -t | --count | --number | -n | -o) ((++i)) ;;
      -*) ;;
      *)
        if [[ -z $command ]]; then
          command=$word
        elif [[ -z $second && ($command == arena || $command == peer || $command == cache || $command == help) ]]; then
          second=$word
        else
          ((++arguments))
        fi
        ;;
    esac
  done

  case $previous in
    --state) _realize_files -d "$current"; return ;;
    --arena) _realize_offer "$current" < <(_realize_arenas); return ;;
    --name | --listen | --expires | --timeout | -t | --count | --number | -n) return ;;
    -o) _realize_offer "$current" <<<$'allow_other\nno_allow_other\nthreads='; return ;;
  esac

  local commands='init serve stop status wait config watch invite join key peer arena conflicts resolve confirm undo verify history cache ls stat why cat fetch mark mount unmount version help'
  if [[ $current == -* ]]; then
    local options='--state --json --help'
    case "$command $second" in
      'init '*) options+=' --name --listen' ;;
      'serve '*) options+=' --detach' ;;
      'wait '*) options+=' --timeout' ;;
      'watch '*) options+=' --count' ;;
      'invite '*) options+=' --arena --no-arenas --expires' ;;
      'arena leave') options+=' --force' ;;
      'confirm '*) options+=' --keep' ;;
      'undo '*) options+=' --since --change --dry-run' ;;
      'history '*) options+=' --number' ;;
      'ls '*) options+=' -l' ;;
      'mount '*) options+=' -o' ;;
    esac
    _realize_offer "$current" <<<"${options// /$'\n'}"
    return
  fi

  case $command in
    '') _realize_offer "$current" <<<"${commands// /$'\n'}" ;;
    help) [[ -z $second ]] && _realize_offer "$current" <<<"${commands// /$'\n'}" ;;
    arena)
      if [[ -z $second ]]; then
        _realize_offer "$current" <<<$'create\njoin\nadmit\nwithdraw\nleave\nlist\nrescan'
      elif [[ $second == create || $second == join ]] && ((arguments == 1)); then
        _realize_files -d "$current"
      elif [[ $second == admit || $second == withdraw ]] && ((arguments == 1)); then
        _realize_offer "$current" < <(_realize_peers)
      elif [[ $second != create && $second != list ]] && ((arguments == 0)); then
        _realize_offer "$current" < <(_realize_arenas)
      fi
      ;;
    peer)
      if [[ -z $second ]]; then
        _realize_offer "$current" <<<$'list\nadd\nremove'
      elif [[ $second == remove ]]; then
        _realize_offer "$current" < <(_realize_peers)
      fi
      ;;
    cache)
      if [[ -z $second ]]; then _realize_offer "$current" <<<$'show\nlimit\nshrink\nclear'; else _realize_offer "$current" < <(_realize_arenas); fi
      ;;
    status | wait | conflicts | confirm | verify | watch) ((arguments == 0)) && _realize_offer "$current" < <(_realize_arenas) ;;
    config)
      if ((arguments == 0)); then
        _realize_offer "$current" < <(_realize_arenas | sed 's/$/:/'; _realize_settings)
      elif ((arguments == 1)) && [[ $previous == *: ]]; then
        _realize_offer "$current" < <(_realize_settings "$previous")
      fi
      ;;
    mount)
      if ((arguments == 0)); then _realize_offer "$current" < <(_realize_arenas); else _realize_files -d "$current"; fi
      ;;
    unmount) _realize_files -d "$current" ;;
    mark)
      if ((arguments == 0)); then
        _realize_offer "$current" <<<$'real\nunreal\nnone'
      else
        _realize_offer "$current" < <(_realize_arena_paths "$current")
        [[ $current == *:* ]] || _realize_files -f "$current"
      fi
      ;;
    ls | stat | why | undo | cat | fetch | resolve | history)
      _realize_offer "$current" < <(_realize_arena_paths "$current")
      [[ $current == *:* ]] || _realize_files -f "$current"
      ;;
  esac
  # After "docs:" or a folder, more is to come on the same word.
  ((${#COMPREPLY[@]} == 1)) && [[ ${COMPREPLY[0]} == *[:/=] ]] && compopt -o nospace 2>/dev/null
  return 0
}

_realize_mount() {
  COMPREPLY=()
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local _realize_program=(realize)
  case $previous in
    --state) _realize_files -d "$current"; return ;;
    -o) _realize_offer "$current" <<<$'allow_other\nno_allow_other\nthreads='; return ;;
    -u | --unmount) _realize_files -d "$current"; return ;;
  esac
  if [[ $current == -* ]]; then
    _realize_offer "$current" <<<$'--state\n--unmount\n--foreground\n-o\n--help'
  elif ((COMP_CWORD == 1)); then
    _realize_offer "$current" < <(_realize_arenas)
  else
    _realize_files -d "$current"
  fi
}

complete -F _realize realize
complete -F _realize_mount realize-mount
