#include "adaptmedseg-torch/src/native.h"
#include "adaptmedseg-torch/src/native.rs.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_map>

namespace adaptmedseg {
namespace {

/// Smaller blocks are the system's own business: it keeps them.
constexpr std::size_t large = std::size_t{1} << 20;
constexpr std::size_t granule = std::size_t{1} << 16;

/// Memory of libtorch's tensors on the processor. The system takes every large block back and hands out zeroed pages for
/// the next one: in bfloat16 a quarter of the time of an encoder's pass. Here they are kept, as a GPU's are, but no more
/// is held than a quarter above what has been in use at once.
class KeepingAllocator final : public c10::Allocator {
  public:
    static KeepingAllocator& instance() {
        // Tensors may be freed when the process ends, so it is never destroyed.
        static auto* allocator = new KeepingAllocator;
        return *allocator;
    }

    c10::DataPtr allocate(std::size_t count) override {
        void* data = count < large ? c10::alloc_cpu(count) : take(count);
        return {data, data, &give, c10::Device(c10::DeviceType::CPU)};
    }

    c10::DeleterFnPtr raw_deleter() const override { return &give; }

    void copy_data(void* to, const void* from, std::size_t count) const override { default_copy_data(to, from, count); }

    void release() {
        const std::lock_guard<std::mutex> guard(lock_);
        shrink_to(0);
        most_ = in_use_;
    }

    Memory memory() {
        const std::lock_guard<std::mutex> guard(lock_);
        return {in_use_, in_use_ + kept_};
    }

  private:
    void* take(std::size_t count) {
        const std::lock_guard<std::mutex> guard(lock_);
        auto size = (count + granule - 1) / granule * granule;
        void* data = nullptr;
        const auto fitting = free_.lower_bound(size);
        if (fitting != free_.end() && fitting->first <= size + size / 4) {
            size = fitting->first;
            data = fitting->second;
            kept_ -= size;
            free_.erase(fitting);
        } else {
            const auto wanted = in_use_ + size, limit = most_ + most_ / 4;
            shrink_to(limit > wanted ? limit - wanted : 0);
            try {
                data = c10::alloc_cpu(size);
            } catch (...) {
                shrink_to(0);
                data = c10::alloc_cpu(size);
            }
        }
        sizes_.emplace(data, size);
        in_use_ += size;
        most_ = std::max(most_, in_use_);
        return data;
    }

    static void give(void* data) {
        auto& self = instance();
        {
            const std::lock_guard<std::mutex> guard(self.lock_);
            const auto found = self.sizes_.find(data);
            if (found != self.sizes_.end()) {
                const auto size = found->second;
                self.sizes_.erase(found);
                self.in_use_ -= size;
                self.kept_ += size;
                self.free_.emplace(size, data);
                return;
            }
        }
        c10::free_cpu(data);
    }

    /// Gives blocks back until no more than so many bytes are kept: the smallest first, which cost least to have again.
    void shrink_to(std::size_t bytes) {
        while (kept_ > bytes) {
            const auto first = free_.begin();
            kept_ -= first->first;
            c10::free_cpu(first->second);
            free_.erase(first);
        }
    }

    std::mutex lock_;
    std::multimap<std::size_t, void*> free_;
    std::unordered_map<void*, std::size_t> sizes_;
    std::size_t in_use_ = 0, kept_ = 0, most_ = 0;
};

} // namespace

void keep_memory() {
    static std::once_flag once;
    std::call_once(once, [] { c10::SetCPUAllocator(&KeepingAllocator::instance(), 1); });
}

Memory cpu_memory() { return KeepingAllocator::instance().memory(); }

void release_cpu_memory() { KeepingAllocator::instance().release(); }

} // namespace adaptmedseg
