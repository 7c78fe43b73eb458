# Sourced by the scripts in this folder and by run_longrl.sh. Handles --help, checks the variables, and defines `launch
# MODULE overrides...`, which sets up the environment and runs a module.
# shellcheck shell=bash
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
# shellcheck source=scripts/ray/cluster.sh
source "$root/scripts/ray/cluster.sh"

# A value for Hydra: a list unchanged, anything else in quotes, because = ( ) , and others have a meaning in its grammar.
quoted() {
  local rest=$1 before text=
  case "$1" in \[*\]) printf '%s' "$1"; return ;; esac
  # A backslash stands for itself, except before a quote, where each must be doubled: a\'b becomes 'a\\\'b'.
  while [[ $rest == *\'* ]]; do
    before=${rest%%\'*} rest=${rest#*\'}
    text+=$before${before##*[!\\]}\\\'
  done
  printf "'%s'" "$text$rest${rest##*[!\\]}"
}

# Exit unless all of these variables are set.
require() {
  local name missing=()
  for name in "$@"; do [ -n "${!name:-}" ] || missing+=("$name"); done
  [ ${#missing[@]} -eq 0 ] || { echo "$(basename "$0"): set ${missing[*]} (see --help)" >&2; exit 2; }
}

# among WORD overrides...: whether one of them is WORD, ignoring quotes and a prefix of + or ++.
among() {
  local word=$1 override
  shift
  for override in "$@"; do
    override=${override#+} override=${override#+} override=${override//[\'\" ]/}
    [ "$override" != "$word" ] || return 0
  done
  return 1
}

# overridden KEY overrides...: whether one of them gives KEY a value other than null.
overridden() {
  local key=$1 override
  shift
  for override in "$@"; do
    override=${override#+} override=${override#+} override=${override//[\'\" ]/}
    case "$override" in "$key=" | "$key=null") ;; "$key="*) return 0 ;; esac
  done
  return 1
}

case " $* " in *" -h "* | *" --help "*) sed -n '2,/^[^#]/{/^#/p}' "$0" | cut -c3-; exit 0 ;; esac

for name in TRAIN_FILES VAL_FILES WARMUP_FILES STAGE1_FILES STAGE2_FILES MODEL_PATH CKPT_SAVE_PATH EXPERIMENT_NAME; do
  case "${!name:-}" in
    *\$\{*)
      echo "$(basename "$0"): $name = '${!name}': Hydra would replace \${...}. Fix: rename the file, or give an override if you mean that" >&2
      exit 2 ;;
  esac
done

# In a running cluster, first run the preflight on all nodes, unless LONGRL_PREFLIGHT=0.
launch() {
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
