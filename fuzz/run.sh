#!/usr/bin/env bash
# Fuzzes: fuzz/run.sh [SECONDS] [TARGET...]
#
# Builds the targets, replays their corpora, fuzzes each for SECONDS (15 unless given; 0 only replays), as many at a time
# as there are processors, and fails on a crash, on an input that takes 10 s, and when memory grows over 1 GB. New inputs
# go to fuzz/found, the culprits to fuzz/artifacts.
set -euo pipefail

CARGO_FUZZ=0.13.2
cd "$(dirname "$0")"
# cargo-fuzz wants options of the compiler that are not stable; so a stable toolchain will do.
export RUSTC_BOOTSTRAP=1 RUST_BACKTRACE=0

usage() {
    printf 'fuzz/run.sh: %s\nusage: fuzz/run.sh [SECONDS] [TARGET...]\ntargets: %s\n' "$1" "${all[*]}" >&2
    exit 2
}

# The longest input worth trying, in bytes: a little over the longest packet, record, URL; 300 inputs of the engine.
longest() {
    case $1 in
    packet_open | message) echo 1600 ;;
    record | enode) echo 600 ;;
    bootnodes) echo 4096 ;;
    *) echo 1500 ;;
    esac
}

mapfile -t all < <(sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"$/\1/p' Cargo.toml)
seconds=15
if [ $# -gt 0 ]; then
    [[ $1 =~ ^[0-9]{1,6}$ ]] || usage "\"$1\" is no number of seconds"
    seconds=$1
    shift
fi
targets=("${@:-${all[@]}}")
for target in "${targets[@]}"; do
    [[ " ${all[*]} " == *" $target "* ]] || usage "there is no target \"$target\""
done

if ! cargo fuzz --version 2>/dev/null | grep -q " $CARGO_FUZZ\$"; then
    cargo install --locked --quiet "cargo-fuzz@$CARGO_FUZZ"
fi
# No sanitizer: there is no unsafe code of ours to watch, and programs with one are half as fast.
cargo fuzz build --fuzz-dir . --release --sanitizer none
bin=target/$(rustc -vV | sed -n 's/^host: //p')/release

# Runs a target for some seconds, or over what there is already; its words go to fuzz/artifacts.
fuzz() {
    local target=$1 limit=$2 log=artifacts/$1.log
    local dirs=("found/$target" "corpus/$target")
    if [ -d "regressions/$target" ]; then dirs+=("regressions/$target"); fi
    mkdir -p "artifacts/$target" "found/$target"
    # The program ends by itself; the outer limit is for one that does not.
    timeout --kill-after=5 $((seconds + 120)) "$bin/$target" "$limit" -timeout=10 -rss_limit_mb=1024 \
        -max_len="$(longest "$target")" -len_control=0 -print_final_stats=1 -artifact_prefix="artifacts/$target/" "${dirs[@]}" \
        >"$log" 2>&1
}

report() {
    local target=$1 log=artifacts/$1.log
    stat() { sed -n "s/^stat::$1: *//p" "$log"; }
    printf '%-12s %9s executions, %6s a second, %4s MB at most; ' "$target" "$(stat number_of_executed_units)" \
        "$(stat average_exec_per_sec)" "$(stat peak_rss_mb)"
    sed -n 's/^#[0-9]*.*\(DONE\|INITED\) *cov: \([0-9]*\) ft: \([0-9]*\) corp: \([0-9]*\).*/\2 edges covered, \4 inputs kept/p' \
        "$log" | tail -n 1
}

blame() {
    local target=$1
    grep -v -E '^ +[0-9]+:|^ +at ' "artifacts/$target.log" | tail -n 25 >&2
    printf 'fuzz/run.sh: %s failed; all it said is in fuzz/artifacts/%s.log, the input in fuzz/artifacts/%s/\n' \
        "$target" "$target" "$target" >&2
    printf 'again: fuzz/%s/%s fuzz/artifacts/%s/FILE\n' "$bin" "$target" "$target" >&2
    failed=1
}

# All targets in batches, with one option each.
round() {
    local at batch target
    for ((at = 0; at < ${#targets[@]}; at += jobs)); do
        batch=("${targets[@]:at:jobs}")
        local -A pids=()
        for target in "${batch[@]}"; do
            fuzz "$target" "$1" &
            pids[$target]=$!
        done
        for target in "${batch[@]}"; do
            if wait "${pids[$target]}"; then report "$target"; else blame "$target"; fi
        done
    done
    [ -z "$failed" ] || exit 1
}

failed=
jobs=$(nproc)
echo "corpora:"
round -runs=0
if [ "$seconds" -gt 0 ]; then
    echo "fuzzing, $seconds s each:"
    round "-max_total_time=$seconds"
fi
