#!/bin/sh
# What cargo calls in rustc's place (RUSTC_WRAPPER): adds libFuzzer's instrumentation to the crates that are fuzzed, and to
# no other, so that everything else is built once, plainly. These flags are stable, and those of `cargo fuzz`.
rustc=$1
shift
case " $* " in
*" --crate-name verity_"* | *" --crate-name raft "*)
    set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$rustc" "$@"
