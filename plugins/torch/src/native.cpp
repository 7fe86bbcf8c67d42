#include "adaptmedseg-torch/src/native.h"
#include "adaptmedseg-torch/src/native.rs.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <torch/version.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include <future>
#include <mutex>
#include <string>
#include <thread>

namespace adaptmedseg {

rust::String built_version() {
    return std::to_string(TORCH_VERSION_MAJOR) + "." + std::to_string(TORCH_VERSION_MINOR) + "." +
           std::to_string(TORCH_VERSION_PATCH);
}

rust::String running_version() {
    // The one place where the library itself, not a header, says it.
    const std::string text = at::show_config(), key = "TORCH_VERSION=";
    const auto start = text.find(key);
    if (start == std::string::npos) return "unknown";
    const auto from = start + key.size();
    return text.substr(from, text.find_first_of(",+ \n", from) - from);
}

std::int32_t set_threads(std::int32_t count) {
    // The number belongs to a thread, but libtorch sets it again, to that of whoever came last, where a thread first
    // computes: get_num_threads makes this the first time, and the lock keeps the two together.
    static std::mutex lock;
    const std::lock_guard<std::mutex> guard(lock);
    at::set_num_threads(count);
    return at::get_num_threads();
}

void wait_asleep() {
#ifdef _OPENMP
    // GNU's OpenMP lets waiting threads spin for milliseconds, unless it has more threads than there are processors: then
    // a thousand turns, and to sleep. Beside another busy process that is the difference between one time and thirty. A
    // setting for it can only be given in the environment, which is not ours. So there are more threads: these, asleep
    // for good. Threads count once they have been in a team, and as long as the thread lives that led it.
    static std::once_flag once;
    std::call_once(once, [] {
        const int processors = omp_get_num_procs();
        std::promise<void> done;
        std::thread([&done, processors] {
#pragma omp parallel num_threads(processors + 1)
            { (void)omp_get_thread_num(); }
            done.set_value();
            std::promise<void>().get_future().wait();
        }).detach();
        done.get_future().wait();
    });
#endif
}

void exact_float32() {
#if TORCH_VERSION_MAJOR > 2 || TORCH_VERSION_MINOR >= 10
    at::globalContext().setFloat32Precision(at::str2backend("generic"), at::str2op("all"), at::str2precision("ieee"));
#else
    at::globalContext().setFloat32Precision("generic", "all", "ieee");
#endif
}

std::int32_t cuda_count() { return at::hasCUDA() ? static_cast<std::int32_t>(at::detail::getCUDAHooks().getNumGPUs()) : 0; }

bool has_mps() { return at::hasMPS(); }

Memory cuda_memory(std::int32_t index) {
    const auto stats = at::getDeviceAllocator(c10::kCUDA)->getDeviceStats(static_cast<c10::DeviceIndex>(index));
    const auto total = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    return {static_cast<std::uint64_t>(stats.allocated_bytes[total].current),
            static_cast<std::uint64_t>(stats.reserved_bytes[total].current)};
}

void release_cache() {
    if (at::accelerator::getAccelerator(false)) at::accelerator::emptyCache();
}

} // namespace adaptmedseg
