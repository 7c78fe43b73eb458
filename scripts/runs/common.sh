# Sourced by the scripts beside it and by run_longrl.sh: `launch MODULE overrides...`, after --help, set-up and the data
# files' names.
# shellcheck shell=bash
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
# shellcheck source=scripts/ray/cluster.sh
source "$root/scripts/ray/cluster.sh"

# for Hydra: as it is if it is a list, else in quotes, for = ( ) , and the like mean something to it
quoted() {
  local rest=$1 before text=
  case "$1" in \[*\]) printf '%s' "$1"; return ;; esac
  while [[ $rest == *\'* ]]; do # backslashes mean themselves, except before a quote: there each needs another
    before=${rest%%\'*} rest=${rest#*\'}
    text+=$before${before##*[!\\]}\\\'
  done
  printf "'%s'" "$text$rest${rest##*[!\\]}"
}

needs() { # the variables that must be set
  local name missing=()
  for name in "$@"; do [ -n "${!name:-}" ] || missing+=("$name"); done
  [ ${#missing[@]} -eq 0 ] || { echo "$(basename "$0"): set ${missing[*]} (see --help)" >&2; exit 2; }
}

among() { # among WORD overrides...: whether one of them is WORD, whatever its prefix (+, ++) and quotes
  local wanted=$1 given
  shift
  for given in "$@"; do
    given=${given#+} given=${given#+} given=${given//[\'\" ]/}
    [ "$given" != "$wanted" ] || return 0
  done
  return 1
}

overridden() { # overridden KEY overrides...: whether one of them gives KEY a value
  local key=$1 given
  shift
  for given in "$@"; do
    given=${given#+} given=${given#+} given=${given//[\'\" ]/}
    case "$given" in "$key=" | "$key=null") ;; "$key="*) return 0 ;; esac
  done
  return 1
}

case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;; esac

for name in TRAIN_FILES VAL_FILES WARMUP_FILES STAGE1_FILES STAGE2_FILES MODEL_PATH CKPT_SAVE_PATH EXPERIMENT_NAME; do
  case "${!name:-}" in
    *\$\{*)
      echo "$(basename "$0"): $name is '${!name}': Hydra would replace \${...}; if that is meant, give an override instead" >&2
      exit 2 ;;
  esac
done

launch() { # in a running cluster a run begins with the preflight of all nodes; LONGRL_PREFLIGHT=0 leaves it out
  local python=${LONGRL_VENV:-$root/.venv}/bin/python
  bash "$root/scripts/setup.sh" ${LONGRL_TARGET:+"$LONGRL_TARGET"}
  unset PYTHONDONTWRITEBYTECODE
  export RAY_DEDUP_LOGS=0
  find_token
  case "${RAY_ADDRESS:-local} ${LONGRL_PREFLIGHT:-1} $* " in
    "local "* | *" --dry-run "* | *" --config "* | *" --config=changed "* | *" --version "*) ;;
    *" 1 recipe.longrl.main "*) "$python" -m recipe.longrl.preflight "${@:2}" ;;
  esac
  exec "$python" -m "$@"
}
