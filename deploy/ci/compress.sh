#!/bin/sh
# Build, measure and judge the student of a recipe, in any CI system.
#
#   compress.sh RECIPE [key=value ...] [--out DIR] [--baseline PATH] [--artefacts DIR]
#               [--inconclusive fail|pass] [--keep DIR]
#
#   --out DIR           the cache: stages whose recipe did not change are fresh, others are made anew (out/ci)
#   --baseline PATH     what to compare with: a folder that --keep filled, or an earlier --out, whose candidate is then
#                       measured in turns with this one; or only a report. Nothing there: a warning, no comparison.
#   --artefacts DIR     where summary.md, report.html, report.json, junit.xml, gate.json, digest.json go (artefacts)
#   --inconclusive WHAT what a verdict is worth that the measurement could not decide: fail, exit 3 (default); pass
#   --keep DIR          copy there what the next run takes as its baseline
#
# Each may come from the environment instead: RECIPE, OUT, BASELINE, ARTEFACTS, INCONCLUSIVE, KEEP, and OVERRIDES with
# one key=value a line. UNDERSTUDY is how the command is called (understudy).
#
# Exit code: 0 pass, 1 a gate failed, 2 no verdict (an error), 3 inconclusive.
set -eu

RECIPE=${RECIPE-} OUT=${OUT:-out/ci} BASELINE=${BASELINE-} ARTEFACTS=${ARTEFACTS:-artefacts}
INCONCLUSIVE=${INCONCLUSIVE:-fail} KEEP=${KEEP-} OVERRIDES=${OVERRIDES-} UNDERSTUDY=${UNDERSTUDY:-understudy}

main() {
  while IFS= read -r line; do
    case $line in
    '') ;;
    [!-]*=*) set -- "$@" "$line" ;;
    *) refuse "OVERRIDES holds '$line', expected key=value" ;;
    esac
  done <<EOF
$OVERRIDES
EOF
  # Options into variables; overrides stay, behind what is still to be read.
  left=$#
  while [ "$left" -gt 0 ]; do
    word=$1
    shift
    left=$((left - 1))
    case $word in
    --out | --baseline | --artefacts | --inconclusive | --keep)
      [ "$left" -gt 0 ] || refuse "$word wants a value"
      value=$1
      shift
      left=$((left - 1))
      case $word in
      --out) OUT=$value ;;
      --baseline) BASELINE=$value ;;
      --artefacts) ARTEFACTS=$value ;;
      --inconclusive) INCONCLUSIVE=$value ;;
      --keep) KEEP=$value ;;
      esac
      ;;
    -h | --help)
      sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    -*) refuse "unknown option $word" "--help lists them" ;;
    *=*) set -- "$@" "$word" ;;
    *) RECIPE=$word ;;
    esac
  done
  [ -n "$RECIPE" ] || refuse "no recipe was named" "compress.sh RECIPE, or RECIPE=FILE in the environment"
  case $INCONCLUSIVE in fail | pass) ;; *) refuse "--inconclusive is $INCONCLUSIVE, expected fail or pass" ;; esac

  mkdir -p "$ARTEFACTS"
  for name in report.html report.json junit.xml gate.json digest.json; do
    rm -f "$ARTEFACTS/$name"
  done
  printf '## No verdict\n\nThe run did not reach one; its log says why.\n' >"$ARTEFACTS/summary.md"
  call digest "$RECIPE" "$@" --json >"$ARTEFACTS/digest.json" || exit 2

  choose_baseline # sets `row` and `report`
  if [ -n "$row" ]; then
    set -- "$@" "baseline=\"$row\""
    call digest "$RECIPE" "$@" >/dev/null || exit 2
  fi

  # --force replaces what another recipe made, and what a broken cache holds; what is fresh stays.
  said=$(call run "$RECIPE" "$@" --out "$OUT" --force) || true
  # A crash exits with 1, as a failed gate does; only a verdict is followed by its line.
  case $said in *'"verdict"'*) printf '%s\n' "$said" ;; *) exit 2 ;; esac

  judge # sets `code`
  write_summary
  cp "$OUT/report/report.html" "$OUT/report/report.json" "$ARTEFACTS/"
  [ -z "$KEEP" ] || keep

  case $code in
  1) exit 1 ;;
  3)
    if [ "$INCONCLUSIVE" = pass ]; then
      warn "inconclusive: the measurement could not decide; it passes, as --inconclusive asks"
    else
      warn "inconclusive: the measurement could not decide, which fails this job; --inconclusive pass lets it through"
      exit 3
    fi
    ;;
  esac
}

# Sets `row` to a folder whose candidate is to be measured, or `report` to one that is only read, or neither. What cannot
# be read is an error before any training.
choose_baseline() {
  row='' report=''
  [ -n "$BASELINE" ] || return 0
  BASELINE=${BASELINE%/}
  if [ ! -e "$BASELINE" ] || { [ -d "$BASELINE" ] && [ -z "$(ls -A "$BASELINE")" ]; }; then
    warn "there is no baseline at $BASELINE, so nothing is compared (is this the first run?)"
    return 0
  fi
  if [ -d "$BASELINE" ] && [ -d "$OUT" ] && [ "$(cd "$BASELINE" && pwd -P)" = "$(cd "$OUT" && pwd -P)" ]; then
    refuse "the baseline is the output folder $OUT itself" "fill a folder of its own with --keep DIR"
  fi
  if cmp -s "$ARTEFACTS/digest.json" "$BASELINE/digest.json"; then
    printf 'nothing changed since the baseline: nothing to compare\n' >&2
  elif [ -d "$BASELINE/bundles" ]; then
    row=$BASELINE
  else
    report=$BASELINE
    [ ! -d "$BASELINE/report" ] || report=$BASELINE/report
    code=0
    call gate "$report" >/dev/null || code=$?
    case $code in 0 | 1 | 3) ;; *) exit 2 ;; esac
  fi
}

# By the report's own gates, and against the baseline's report where that is all there is of it.
judge() {
  set --
  [ -z "$report" ] || set -- --baseline "$report"
  code=0
  call gate "$OUT/report" "$@" --json "$ARTEFACTS/gate.json" --junit "$ARTEFACTS/junit.xml" \
    --markdown "$ARTEFACTS/judged.md" || code=$?
  case $code in 0 | 1 | 3) ;; *) exit 2 ;; esac
}

# The judgement first, the whole table folded below.
write_summary() {
  {
    cat "$ARTEFACTS/judged.md"
    printf '\n<details><summary>All rows</summary>\n\n%s\n\n</details>\n' "$(cat "$OUT/report/summary.md")"
  } >"$ARTEFACTS/summary.md"
  rm -f "$ARTEFACTS/judged.md"
}

keep() {
  mkdir -p "$KEEP"
  rm -rf "${KEEP:?}/report" "${KEEP:?}/bundles"
  cp -R "$OUT/report" "$OUT/bundles" "$KEEP/"
  cp "$ARTEFACTS/digest.json" "$KEEP/"
}

call() {
  # Several words, such as `python -m pipeline`.
  # shellcheck disable=SC2086
  $UNDERSTUDY "$@"
}

warn() {
  [ -z "${GITHUB_ACTIONS-}" ] || printf '::warning title=Understudy::%s\n' "$1" | sed 's/%/%25/g'
  printf 'warning: %s\n' "$1" >&2
}

refuse() {
  printf 'error: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '  %s\n' "$2" >&2
  exit 2
}

main "$@"
