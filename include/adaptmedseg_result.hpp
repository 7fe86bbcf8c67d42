// AdaptMedSeg for C++17: what a call of the library comes to. Included by adaptmedseg.hpp.
//
// SPDX-License-Identifier: Apache-2.0

#ifndef ADAPTMEDSEG_RESULT_HPP
#define ADAPTMEDSEG_RESULT_HPP

#include "adaptmedseg.h"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

namespace adaptmedseg {

/// What a call came to. A number this header does not know is a failure too.
enum class Status : ams_status {
    ok = AMS_STATUS_OK,
    invalid_argument = AMS_STATUS_INVALID_ARGUMENT,
    io = AMS_STATUS_IO,
    format = AMS_STATUS_FORMAT,
    unsupported = AMS_STATUS_UNSUPPORTED,
    exists = AMS_STATUS_EXISTS,
    out_of_memory = AMS_STATUS_OUT_OF_MEMORY,
    cancelled = AMS_STATUS_CANCELLED,
    busy = AMS_STATUS_BUSY,
    poisoned = AMS_STATUS_POISONED,
    internal = AMS_STATUS_INTERNAL,
    no_mask = AMS_STATUS_NO_MASK,
    /// Of this wrapper alone: a progress callback threw. `Error::exception` has what it threw.
    callback_threw = -1,
};

/// Why a call failed.
struct Error {
    Status status = Status::internal;
    /// What went wrong, in English.
    std::string message;
    /// What to do about it; empty where that is not known.
    std::string hint;
    /// What the progress callback threw, for `Status::callback_threw`; else null.
    std::exception_ptr exception = nullptr;
};

/// A value, or the reason why there is none. Asking for the one that is not there ends the program with a message.
template <typename T>
class [[nodiscard]] Result {
public:
    Result(T value) : content_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : content_(std::in_place_index<1>, std::move(error)) {}

    [[nodiscard]] bool ok() const noexcept { return content_.index() == 0; }
    explicit operator bool() const noexcept { return ok(); }

    [[nodiscard]] T &value() & { return *get(); }
    [[nodiscard]] const T &value() const & { return *const_cast<Result *>(this)->get(); }
    [[nodiscard]] T &&value() && { return std::move(*get()); }
    T &operator*() & { return *get(); }
    const T &operator*() const & { return value(); }
    T &&operator*() && { return std::move(*get()); }
    T *operator->() { return get(); }
    const T *operator->() const { return &value(); }

    [[nodiscard]] const Error &error() const {
        const Error *error = std::get_if<1>(&content_);
        if (error == nullptr) {
            std::fputs("adaptmedseg: error() of a result that has a value\n", stderr);
            std::abort();
        }
        return *error;
    }

private:
    T *get() {
        T *value = std::get_if<0>(&content_);
        if (value == nullptr) {
            std::fprintf(stderr, "adaptmedseg: value of a failed result: %s\n", error().message.c_str());
            std::abort();
        }
        return value;
    }

    std::variant<T, Error> content_;
};

/// Success, or the reason why not.
template <>
class [[nodiscard]] Result<void> {
public:
    Result() = default;
    Result(Error error) : error_(std::move(error)) {}

    [[nodiscard]] bool ok() const noexcept { return !error_.has_value(); }
    explicit operator bool() const noexcept { return ok(); }

    [[nodiscard]] const Error &error() const {
        if (!error_) {
            std::fputs("adaptmedseg: error() of a result that is a success\n", stderr);
            std::abort();
        }
        return *error_;
    }

private:
    std::optional<Error> error_;
};

namespace detail {

template <auto Free>
struct Deleter {
    template <typename T>
    void operator()(T *handle) const noexcept { Free(handle); }
};

template <typename T, auto Free>
using Handle = std::unique_ptr<T, Deleter<Free>>;

/// Receives the error of one call.
class Catch {
public:
    Catch() = default;
    Catch(const Catch &) = delete;
    Catch &operator=(const Catch &) = delete;
    ~Catch() { ams_error_free(error_); }

    operator ams_error **() noexcept { return &error_; }

    [[nodiscard]] Error take(ams_status status) const {
        Error error;
        error.status = static_cast<Status>(status);
        error.message = error_ == nullptr ? ams_status_name(status) : ams_error_message(error_);
        if (const char *hint = ams_error_hint(error_)) {
            error.hint = hint;
        }
        return error;
    }

    [[nodiscard]] Result<void> result(ams_status status) const {
        return status == AMS_STATUS_OK ? Result<void>() : Result<void>(take(status));
    }

private:
    ams_error *error_ = nullptr;
};

/// Calls `get(out, error)`, which writes a plain value.
template <typename T, typename Get>
[[nodiscard]] Result<T> fetch(Get get) {
    Catch error;
    T value{};
    const ams_status status = get(&value, static_cast<ams_error **>(error));
    return status == AMS_STATUS_OK ? Result<T>(std::move(value)) : Result<T>(error.take(status));
}

/// Calls `get(out, error)`, which gives a string away.
template <typename Get>
[[nodiscard]] Result<std::string> fetch_text(Get get) {
    auto text = fetch<char *>(get);
    if (!text) {
        return text.error();
    }
    const Handle<char, ams_string_free> owner(*text);
    return std::string(owner.get());
}

template <typename T>
constexpr ams_scalar_type scalar_type() {
    if constexpr (std::is_floating_point_v<T>) {
        static_assert(sizeof(T) == 4 || sizeof(T) == 8, "voxels are float or double");
        return sizeof(T) == 4 ? AMS_SCALAR_FLOAT32 : AMS_SCALAR_FLOAT64;
    } else {
        static_assert(std::is_integral_v<T> && !std::is_same_v<T, bool>, "voxels are numbers");
        constexpr bool is_signed = std::is_signed_v<T>;
        switch (sizeof(T)) {
        case 1: return is_signed ? AMS_SCALAR_INT8 : AMS_SCALAR_UINT8;
        case 2: return is_signed ? AMS_SCALAR_INT16 : AMS_SCALAR_UINT16;
        case 4: return is_signed ? AMS_SCALAR_INT32 : AMS_SCALAR_UINT32;
        default: return is_signed ? AMS_SCALAR_INT64 : AMS_SCALAR_UINT64;
        }
    }
}

} // namespace detail

} // namespace adaptmedseg

#endif // ADAPTMEDSEG_RESULT_HPP
