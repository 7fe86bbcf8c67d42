// What tch does not bind of libtorch. Exceptions become errors on the Rust side, with their text.
#pragma once

#include "rust/cxx.h"

#include <cstdint>

namespace adaptmedseg {

struct Memory;

/// The version of libtorch whose headers this was compiled with, such as 2.9.0.
rust::String built_version();
/// The version of the libtorch that is loaded.
rust::String running_version();

/// Threads of libtorch's operations that are called on this thread from here on.
std::int32_t set_threads(std::int32_t count);
/// Makes waiting threads of libtorch's OpenMP sleep soon instead of spinning: see native.cpp.
void wait_asleep();
/// float32 products are float32, without TF32 or bfloat16 in between.
void exact_float32();

/// From here on libtorch keeps large blocks of the processor's memory for its next tensors: see allocator.cpp.
void keep_memory();
/// Bytes of such blocks in use, and held.
Memory cpu_memory();
/// Gives those that are kept back to the system.
void release_cpu_memory();

std::int32_t cuda_count();
bool has_mps();
/// Bytes of a CUDA device that libtorch's allocator has in use, and holds.
Memory cuda_memory(std::int32_t index);
/// Gives what the allocator of the accelerator holds for later back to it.
void release_cache();

} // namespace adaptmedseg
