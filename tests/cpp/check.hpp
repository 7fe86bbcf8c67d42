// Checks for the C++ hosts: the first that fails ends the program.
#ifndef CHECK_HPP
#define CHECK_HPP

#include "adaptmedseg.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);     \
            std::exit(1);                                                                    \
        }                                                                                    \
    } while (0)

/// The value of a result that must be one.
template <typename T>
T must(adaptmedseg::Result<T> result) {
    if (!result) {
        std::fprintf(stderr, "failed: %s (%s)\n", result.error().message.c_str(), result.error().hint.c_str());
        std::exit(1);
    }
    if constexpr (!std::is_void_v<T>) {
        return std::move(*result);
    }
}

/// The error of a result that must be one, of this status.
template <typename T>
adaptmedseg::Error must_fail(const adaptmedseg::Result<T> &result, adaptmedseg::Status status) {
    if (result || result.error().status != status) {
        std::fprintf(stderr, "status %d was expected, got %s\n", static_cast<int>(status),
                     result ? "a success" : result.error().message.c_str());
        std::exit(1);
    }
    return result.error();
}

#endif
