// What ends the module early: a message, what to do about it, and an exit code. The codes are those of the command
// `adaptmedseg`; a number never changes its meaning.
//
// SPDX-License-Identifier: Apache-2.0

#ifndef ADAPTMEDSEG_CLI_FAILURE_HPP
#define ADAPTMEDSEG_CLI_FAILURE_HPP

#include <adaptmedseg.hpp>

#include <exception>
#include <string>
#include <type_traits>
#include <utility>

namespace cli {

enum class Code {
    /// Arguments or prompts that cannot be used.
    usage = 2,
    /// A file whose content cannot be used.
    content = 3,
    /// A file that cannot be read or written.
    io = 4,
    /// Well-formed, but nothing this version handles.
    unsupported = 5,
    /// Too little memory.
    memory = 6,
    /// A mistake in this program.
    internal = 70,
    /// Ended by Ctrl-C or by a request to terminate.
    cancelled = 130,
};

class Failure : public std::exception {
public:
    Failure(Code code, std::string message, std::string hint = {})
        : code_(code), message_(std::move(message)), hint_(std::move(hint)) {}

    [[nodiscard]] static Failure cancelled() { return {Code::cancelled, "cancelled; nothing was written"}; }

    [[nodiscard]] Code code() const noexcept { return code_; }
    [[nodiscard]] const std::string &hint() const noexcept { return hint_; }
    [[nodiscard]] const char *what() const noexcept override { return message_.c_str(); }

private:
    Code code_;
    std::string message_;
    std::string hint_;
};

/// The failure of a call of the library.
inline Failure failure_of(const adaptmedseg::Error &error) {
    using adaptmedseg::Status;
    switch (error.status) {
    case Status::cancelled: return Failure::cancelled();
    case Status::invalid_argument: return {Code::usage, error.message, error.hint};
    case Status::format: return {Code::content, error.message, error.hint};
    case Status::io:
    case Status::exists: return {Code::io, error.message, error.hint};
    case Status::unsupported: return {Code::unsupported, error.message, error.hint};
    case Status::out_of_memory: return {Code::memory, error.message, error.hint};
    default: return {Code::internal, error.message, error.hint};
    }
}

/// The value of a call of the library; throws a Failure if there is none.
template <typename T>
T must(adaptmedseg::Result<T> result) {
    if (!result) throw failure_of(result.error());
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

/// The same for a call that takes what `file` holds: what the library refuses is the fault of that.
template <typename T>
T must(adaptmedseg::Result<T> result, const std::string &file) {
    if (!result && result.error().status == adaptmedseg::Status::invalid_argument) {
        throw Failure(Code::content, file + ": " + result.error().message, result.error().hint);
    }
    return must(std::move(result));
}

} // namespace cli

#endif // ADAPTMEDSEG_CLI_FAILURE_HPP
