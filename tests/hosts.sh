#!/usr/bin/env bash
# Builds and installs the library, then runs everything that uses it from outside Rust: the header, the exported
# symbols, the CMake and pkg-config packages, the C and C++ hosts, these again under AddressSanitizer and under valgrind.
#
#   ADAPTMEDSEG_LIBRARY_DIR=DIR  use the libadaptmedseg and the command already in DIR instead of building them
#   ADAPTMEDSEG_FIXTURE          the program that makes the model of random weights (default: cargo builds it)
#   ADAPTMEDSEG_INSTALL=0        do not apt-get install what is missing; skip instead
#   CARGO_TARGET_DIR             where cargo builds (default: target)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
scratch=$work/scratch
mkdir "$scratch"
target=${CARGO_TARGET_DIR:-$root/target}
passed=0 failed=0 skipped=0

# check NAME COMMAND...: one line; the output only of what fails.
check() {
    local name=$1 log=$work/log
    shift
    if "$@" >"$log" 2>&1; then
        echo "passed   $name"
        passed=$((passed + 1))
        grep -h '^skipped:' "$log" || true
        skipped=$((skipped + $(grep -c '^skipped:' "$log" || true)))
    else
        echo "FAILED   $name"
        failed=$((failed + 1))
        tail -n 60 "$log" | sed 's/^/         /'
    fi
}
skip() {
    echo "skipped: $1: $2"
    skipped=$((skipped + 1))
}
finish() {
    echo "hosts: $passed passed, $failed failed, $skipped skipped"
    ((failed == 0))
}

# What is needed: a program or a file, and the package that has it.
missing=()
for pair in cmake:cmake ninja:ninja-build valgrind:valgrind pkg-config:pkg-config g++:g++ nm:binutils; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
compgen -G '/usr/lib/cmake/ITK-5*' >/dev/null || compgen -G '/usr/lib/*/cmake/ITK-5*' >/dev/null ||
     missing+=(libinsighttoolkit5-dev)
if ((${#missing[@]})) && [[ ${ADAPTMEDSEG_INSTALL:-1} == 1 ]] && command -v apt-get >/dev/null; then
    as_root=()
    ((EUID == 0)) || as_root=(sudo)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq || true
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" ||
        echo "could not install: ${missing[*]}" >&2
fi

# Build, install.
configure=(-S "$root" -B "$work/build" -G Ninja -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib)
if [[ -n ${ADAPTMEDSEG_LIBRARY_DIR:-} ]]; then
    built=$(cd "$ADAPTMEDSEG_LIBRARY_DIR" && pwd)
    configure+=(-DADAPTMEDSEG_LIBRARY_DIR="$built")
else
    built=$target/release
    # With the command: alone, the library would have other features of its dependencies, and all be built again.
    configure+=(-DADAPTMEDSEG_CARGO_TARGET_DIR="$target"
        "-DADAPTMEDSEG_CARGO_ARGS=--locked;--package;adaptmedseg-cli")
fi
build() { cmake "${configure[@]}" && cmake --build "$work/build" && cmake --install "$work/build"; }
check "the library builds and installs" build
((failed == 0)) || { finish; exit; }
library=$prefix/lib/libadaptmedseg.so

# The interface.
check "the generated headers are what cbindgen makes" "$root/tests/abi/header.sh"
check "exports, header and sources agree with tests/abi/symbols.txt" "$root/tests/abi/symbols.sh" "$library"
links() {
    [[ $(readlink "$prefix/lib/libadaptmedseg.so") == libadaptmedseg.so.0 ]] &&
        [[ $(readlink "$prefix/lib/libadaptmedseg.so.0") == libadaptmedseg.so.0.* ]] &&
        [[ -f $prefix/lib/libadaptmedseg.a ]]
}
check "libadaptmedseg.so -> .so.0 -> .so.0.x.y" links
alone() { # LANGUAGE STANDARD HEADER
    echo "#include <$3>" |
        "${CXX:-g++}" -x "$1" "-std=$2" -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I"$prefix/include" -
}
for header in adaptmedseg.h adaptmedseg_plugin.h; do
    check "$header compiles alone as C11" alone c c11 "$header"
    check "$header compiles alone as C++17" alone c++ c++17 "$header"
done
for header in adaptmedseg.hpp adaptmedseg_result.hpp adaptmedseg_finetune.hpp; do
    check "$header compiles alone as C++17" alone c++ c++17 "$header"
    check "$header compiles alone as C++20" alone c++ c++20 "$header"
done

# A model and a volume.
fixture=${ADAPTMEDSEG_FIXTURE:-}
if [[ -z $fixture ]]; then
    fixture=$target/release/examples/fixture
    examples() { (cd "$root" && cargo build --release --workspace --locked --examples); }
    check "the test programs build" examples
fi
check "a model of random weights" "$fixture" "$work/fixture"
model=$work/fixture/model

# The hosts, as somebody else's project.
consumer() { # FOLDER OPTION...
    cmake -S "$root/tests/consumer" -B "$1" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Debug "${@:2}" &&
        cmake --build "$1"
}
check "find_package(AdaptMedSeg), and the hosts compile without a warning" consumer "$work/hosts"
hosts=$work/hosts
check "a consumer of the shared library" "$hosts/version_shared"
check "a consumer of the static library" "$hosts/version_static"
too_new() {
    sed 's/AdaptMedSeg 0\.1 /AdaptMedSeg 0.2 /' "$root/tests/consumer/CMakeLists.txt" >"$work/CMakeLists.txt"
    mkdir -p "$work/too_new" && mv "$work/CMakeLists.txt" "$work/too_new/"
    ! cmake -S "$work/too_new" -B "$work/too_new/build" -G Ninja -DCMAKE_PREFIX_PATH="$prefix"
}
check "find_package refuses another minor version" too_new
package() { # the tree moved to another place, shared and static
    cp -a "$prefix" "$work/moved" || return
    export PKG_CONFIG_PATH=$work/moved/lib/pkgconfig
    local flags static
    flags=$(pkg-config --cflags --libs adaptmedseg) && [[ $flags == *$work/moved/* ]] || return
    static=$(pkg-config --static --libs adaptmedseg | sed 's/-ladaptmedseg/-l:libadaptmedseg.a/')
    # shellcheck disable=SC2086
    gcc -std=c11 "$root/tests/consumer/version.c" -o "$work/by_pc" $flags -Wl,-rpath,"$work/moved/lib" && "$work/by_pc" &&
        gcc -std=c11 "$root/tests/consumer/version.c" -o "$work/by_pc_static" $(pkg-config --cflags adaptmedseg) $static &&
        "$work/by_pc_static" && rm -r "$work/moved"
}
check "pkg-config, in a tree that was moved" package

check "C: segment, cancel, undo, results" "$hosts/c_segment" "$model" "$scratch"
check "C: the built-in model finds the object" "$hosts/c_segment" builtin "$scratch" --object
check "C: every error" "$hosts/c_errors" "$model" "$scratch"
check "C++: the wrapper" "$hosts/cpp_wrapper" "$model" "$scratch"
check "C: fine-tune, cancel, resume, attach, detach" "$hosts/c_adapt" "$model" "$scratch"
check "C++: fine-tune, cancel, resume, attach, detach" "$hosts/cpp_adapt" "$model" "$scratch"
if [[ -x $hosts/cpp_itk ]]; then
    check "C++: masks land where ITK says" "$hosts/cpp_itk" "$model" "$scratch"
    check "C++: the built-in model finds the object where ITK says" "$hosts/cpp_itk" builtin "$scratch" --object
else
    skip "C++: masks land where ITK says" "ITK is not installed"
fi

# Text needs a tokenizer, which the generated model has not: a network of synthetic weights, imported.
golden=${ADAPTMEDSEG_GOLDEN:-$root/../shared/golden}
if [[ -f $golden/tokenizer.json ]]; then
    import_model() {
        "$(dirname "$fixture")/synthetic_checkpoint" "$root/tests/parity/golden/manifest_mini.json" 7 \
            "$work/synthetic.safetensors" &&
            "$built/adaptmedseg" import "$work/synthetic.safetensors" --tokenizer "$golden/tokenizer.json" \
                --out "$work/text_model"
    }
    check "a checkpoint with text is imported" import_model
    check "C: segment by name" "$hosts/c_segment" "$work/text_model" "$scratch"
else
    skip "C: segment by name" "$golden/tokenizer.json is absent"
fi

# Memory: the host's and, since both use one malloc, the library's. Leaks are errors.
export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0
check "the hosts compile with AddressSanitizer" consumer "$work/asan" -DSANITIZE=ON
check "AddressSanitizer: C: segment" "$work/asan/c_segment" "$model" "$scratch"
check "AddressSanitizer: C: the built-in model" "$work/asan/c_segment" builtin "$scratch" --object
check "AddressSanitizer: C: every error" "$work/asan/c_errors" "$model" "$scratch"
check "AddressSanitizer: C++: the wrapper" "$work/asan/cpp_wrapper" "$model" "$scratch"
rm -rf "$scratch/ball" "$scratch/wrapped"
check "AddressSanitizer: C: fine-tune" "$work/asan/c_adapt" "$model" "$scratch"
check "AddressSanitizer: C++: fine-tune" "$work/asan/cpp_adapt" "$model" "$scratch"
if [[ -x $work/asan/cpp_itk ]]; then
    check "AddressSanitizer: C++: ITK" "$work/asan/cpp_itk" "$model" "$scratch"
fi
if command -v valgrind >/dev/null; then
    # The whole network runs: its kernels choose their instructions at run time, and take what valgrind can follow.
    memcheck=(valgrind --quiet --error-exitcode=9 --fair-sched=yes
        --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite)
    check "valgrind: C: segment" timeout 900 "${memcheck[@]}" "$hosts/c_segment" "$model" "$scratch"
    check "valgrind: C: every error" timeout 900 "${memcheck[@]}" "$hosts/c_errors" "$model" "$scratch"
    check "valgrind: C++: the wrapper" timeout 900 "${memcheck[@]}" "$hosts/cpp_wrapper" "$model" "$scratch"
else
    skip "valgrind" "it is not installed"
fi

finish
