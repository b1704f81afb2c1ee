#!/usr/bin/env bash
# Measures on one NVIDIA GPU what this project says of GPUs, and draws the report.
#
#   results/reproduce_gpu.sh                      every part that has not ended yet
#   results/reproduce_gpu.sh --minutes=8          for so long: call it again to go on
#   results/reproduce_gpu.sh gemma2_2b tune_jax   those parts
#   results/reproduce_gpu.sh --list               the parts, and which have ended
#   results/reproduce_gpu.sh --rehearse           all of it on the CPU, with tiny shapes
#
# It needs the dependencies (BUILD.md) and nothing else; other people's losses join in where
# they are installed. PYTHON names the interpreter: that of .venv, else python3.
#
# A part leaves a folder of its own in results/<name of the GPU>, or in --output_dir. One that
# was stopped goes on where it was. One that has ended is not done again unless its folder is
# removed. No part runs longer than nine minutes: what is left of it then is for the next call,
# so that short slots on a shared machine are enough.
#
# Exit status: 0 when every part has ended well; 1 when one has a failed test, a mismatch or an
# error; 2 for unusable arguments; 75 when there is more to do.
set -euo pipefail
cd "$(dirname "$0")/.."

LONGEST_S=540 # of a part
LEAST_S=20    # that are worth starting a part for
MORE_TO_DO=75

# ---- the parts: a name, how it is run, and what -----------------------------------------------
# What is asked most comes first: the tests of what only a GPU can show, and the sweeps, each of
# whose results is held to float64.

PARTS=(
  "check         check"
  "tests_gpu     pytest  tests/gpu"
  "gemma2_2b     sweep --preset=gemma2_2b --variants=all"
  "long_batch    sweep --preset=long_batch --variants=all"
  "tune_torch    tune  --framework=torch --preset=gemma2_2b --memory_budgets_mib=150,300,600,1200,4800"
  "tune_jax      tune  --framework=jax --preset=gemma2_2b --memory_budgets_mib=150,300,600,1200,4800"
  "tune_long     tune  --framework=jax --preset=long_batch --memory_budgets_mib=400,1024,2048"
  "llama3_8b     sweep --preset=llama3_8b --variants=all"
  "whole_device  break --preset=seed --dtype=bfloat16 --variants=standard,chunked,compiled"
  "within_16gib  break --preset=seed --dtype=bfloat16 --variants=standard,chunked,compiled --memory_limit_gib=16"
  "tests_both    pytest  tests/conformance"
  "tests_torch   pytest  tests/torch_impl"
  "tests_jax     pytest  tests/jax_impl"
  "conformance   conform"
  "seed_bfloat16 sweep --preset=seed --dtype=bfloat16 --variants=all"
  "seed_float32  sweep --preset=seed --dtype=float32 --variants=all"
  "anatomy       apart --preset=gemma2_2b"
)
TILES=(--token_chunks=2048,4096,8192 --vocab_chunks=2048,4096,8192,16384)

# The same on a CPU, in seconds: what stands last counts.
TINY=(--batch_size=2 --seq_len=32 --hidden_dim=16 --repeats=2)
FEW=(--variants=floor,standard,chunked --vocab_sizes=96)

# ---- arguments --------------------------------------------------------------------------------

fail() {
  echo "reproduce_gpu.sh: $*" >&2
  exit 2
}

minutes=1000000 rehearse='' list='' output_dir='' asked=()
for argument in "$@"; do
  case $argument in
    --minutes=*) minutes=${argument#*=} ;;
    --output_dir=*) output_dir=${argument#*=} ;;
    --rehearse) rehearse=yes ;;
    --list) list=yes ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0" && exit 0 ;;
    -*) fail "$argument: no such flag; --help shows all" ;;
    *) asked+=("$argument") ;;
  esac
done
[[ $minutes =~ ^[1-9][0-9]*$ ]] || fail "--minutes: expected an integer > 0, got $minutes"

names() { printf '%s\n' "${PARTS[@]%% *}"; }
# Not by a pipe: `grep -q` exits at the first match, and with pipefail the writer's SIGPIPE would
# count as no match.
is_among() { grep -qx -- "$1" <<<"$2"; }
for name in "${asked[@]}"; do
  is_among "$name" "$(names)" || fail "expected parts among $(names | paste -sd ' '), got $name"
done

python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
device=gpu
if [ "$rehearse" ]; then
  device=cpu
  output_dir=${output_dir:-results/rehearsal}
elif [ -z "$output_dir" ]; then
  gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1) || true
  [ "$gpu" ] || fail "nvidia-smi lists no GPU; --rehearse does without"
  output_dir=results/$(tr -cs '[:alnum:]\n' - <<<"$gpu" | tr '[:upper:]' '[:lower:]')
fi

status_of() { # of a part that has ended: what it exited with
  cat "$output_dir/$1/status.txt" 2>/dev/null || true
}

if [ "$list" ]; then
  for name in $(names); do
    printf '%-14s %s\n' "$name" "$(status_of "$name" | sed 's/^0$/ended/;s/^[1-9].*/failed/')"
  done
  exit 0
fi

# ---- how a part is run ------------------------------------------------------------------------
# Each of these writes into the folder $work; $limit_s is what it may take.

within() { timeout --foreground --signal=INT --kill-after=60 "$limit_s" "$@"; }

# An unfinished run in $work, if there is one, goes on.
measure() {
  local resume=()
  if compgen -G "$work/*/run.json" >/dev/null; then resume=(--resume); fi
  within "$python" -m "$@" --device="$device" --output_dir="$work" "${resume[@]}"
}

run_check() {
  mkdir -p "$work/run"
  within "$python" -m harness.check --device="$device" | tee "$work/run/check.txt"
}

run_pytest() {
  if ! "$python" -c 'import hypothesis, pytest, xdist'; then
    echo "reproduce_gpu.sh: the tests need requirements/dev.txt" >&2 && return 3
  fi
  mkdir -p "$work/run"
  local how=(-n 8 --dist worksteal)
  # Most of them take minutes on a CPU, where CI runs them anyhow.
  if [ "$rehearse" ]; then how=(--collect-only) && [ "$1" != tests/gpu ] || how=(); fi
  # What has passed is not run again when a part that was stopped goes on.
  within "$python" -m pytest "$1" --device="$device" --done="$work/run/passed.txt" -rs \
    "${how[@]}" 2>&1 | tee -a "$work/run/output.txt" | tail -n 40
}

run_conform() {
  local few=()
  if [ "$rehearse" ]; then few=(--framework=torch --variants=chunked); fi
  measure harness.conformance "${few[@]}"
}

run_sweep() {
  local tiny=()
  if [ "$rehearse" ]; then
    tiny=("${TINY[@]}" "${FEW[@]}")
    case $name in
      # Once with every loss that there is; of other people's some are wrong in bfloat16.
      gemma2_2b) tiny+=(--variants=all --dtype=float32) ;;
      llama3_8b | seed_float32) tiny+=(--framework=torch) ;;
      *) tiny+=(--framework=jax) ;;
    esac
  fi
  measure harness.run "$@" "${tiny[@]}"
}

run_tune() {
  local tiny=()
  if [ "$rehearse" ]; then
    tiny=("${TINY[@]}" --vocab_size=96 --strategies=two_pass --token_chunks=16
      --vocab_chunks=16 --memory_budgets_mib=2)
  fi
  measure harness.tune "$@" "${TILES[@]}" "${tiny[@]}"
}

run_break() {
  local tiny=()
  if [ "$rehearse" ]; then
    tiny=(--batch_size=2 --seq_len=64 --hidden_dim=16 --vocab_sizes=8192 --variants=standard
      --dtype=float32 --memory_limit_gib=0.05 --framework="$([ "$name" = whole_device ] && echo torch || echo jax)")
  fi
  measure harness.run --mode=breaking_point "$@" "${tiny[@]}"
}

run_apart() {
  local tiny=()
  if [ "$rehearse" ]; then tiny=(--batch_size=2 --seq_len=32 --hidden_dim=16 --vocab_sizes=96); fi
  measure harness.run --mode=anatomy "$@" "${tiny[@]}"
}

# Runs a part, and puts its folder in its place when it has ended.
run_part() {
  local name=$1 kind=$2 work=$output_dir/unfinished/$1 status=0
  shift 2
  limit_s=$((deadline_s - SECONDS))
  limit_s=$((limit_s < LONGEST_S ? limit_s : LONGEST_S))
  if [ $limit_s -lt $LEAST_S ]; then return $MORE_TO_DO; fi
  printf '\n==== %s\n' "$name"
  "run_$kind" "$@" || status=$?
  case $kind.$status in
    pytest.5) status=0 ;;                      # none is left to run
    *.124) return $MORE_TO_DO ;;                # its time was up
    *.130 | *.137 | pytest.2) exit $MORE_TO_DO ;; # somebody stopped it
    check.1 | *.[2-9] | *.??*) return "$status" ;; # what is missing may be there next time
  esac
  local run=("$work"/*/)
  rm -f "${run[-1]}lock"
  echo "$status" >"${run[-1]}status.txt"
  mv "${run[-1]}" "$output_dir/$name"
  rm -rf "$work"
  return "$status"
}

# ---- all of them ------------------------------------------------------------------------------

mkdir -p "$output_dir"
deadline_s=$((SECONDS + minutes * 60))
result=0 more=''
for part in "${PARTS[@]}"; do
  read -r name kind flags <<<"$part"
  if [ ${#asked[@]} != 0 ] && ! is_among "$name" "$(printf '%s\n' "${asked[@]}")"; then continue; fi
  status=$(status_of "$name")
  if [ -z "$status" ]; then
    status=0
    # shellcheck disable=SC2086  # flags are words without spaces
    run_part "$name" "$kind" $flags || status=$?
  fi
  if [ "$status" = $MORE_TO_DO ]; then
    echo "reproduce_gpu.sh: $name is not done; call it again to go on"
    more=yes
    continue # one part that is slow must not keep the others from their turn
  fi
  if [ "$status" != 0 ]; then
    result=1
    echo "reproduce_gpu.sh: $name ended with status $status" >&2
    # Without its dependencies there is nothing to measure.
    if [ "$name" = check ]; then exit 1; fi
  fi
done

# Of all of them in one page, where all were asked for.
sweeps=()
for name in gemma2_2b llama3_8b long_batch seed_bfloat16 seed_float32 whole_device within_16gib; do
  if [ -d "$output_dir/$name" ]; then sweeps+=("$output_dir/$name"); fi
done
if [ ${#asked[@]} = 0 ] && [ ${#sweeps[@]} -gt 1 ]; then
  "$python" -m harness.report "${sweeps[@]}" --output_dir="$output_dir/report"
fi
if [ "$more" ]; then exit $MORE_TO_DO; fi
exit $result
