// Ctrl-C and requests to terminate. The first asks the run to stop, which leaves no file; a second ends the process at
// once, after the temporary folders are removed.
//
// SPDX-License-Identifier: Apache-2.0

#ifndef ADAPTMEDSEG_CLI_INTERRUPT_HPP
#define ADAPTMEDSEG_CLI_INTERRUPT_HPP

#include "Draft.hpp"
#include "Failure.hpp"

#include <cstdlib>
#include <thread>

#if defined(_WIN32)
#include <optional>
#include <windows.h>
#else
#include <csignal>
#include <pthread.h>
#endif

namespace cli {

class Interrupt {
public:
    /// Call it before any other thread is started: they must inherit the mask of signals.
    Interrupt() : token_(must(adaptmedseg::CancelToken::create())) {
#if defined(_WIN32)
        // Written, not tested. Windows calls the handler on a thread of its own.
        shared_token() = token_;
        SetConsoleCtrlHandler(
            [](DWORD) -> BOOL {
                on_request(*shared_token());
                return TRUE;
            },
            TRUE);
#else
        // A handler could do next to nothing safely, so a thread waits for the signals instead.
        sigset_t signals;
        sigemptyset(&signals);
        for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, signal);
        pthread_sigmask(SIG_BLOCK, &signals, nullptr);
        std::thread([signals, token = token_] {
            for (int signal = 0; sigwait(&signals, &signal) == 0;) on_request(token);
        }).detach();
#endif
    }

    [[nodiscard]] const adaptmedseg::CancelToken &token() const noexcept { return token_; }

    /// Throws if the user has asked to stop.
    void check() const {
        if (token_.is_cancelled()) throw Failure::cancelled();
    }

private:
    static void on_request(const adaptmedseg::CancelToken &token) {
        if (token.is_cancelled()) {
            Temporaries::remove_all();
            std::_Exit(static_cast<int>(Code::cancelled));
        }
        token.cancel();
    }

#if defined(_WIN32)
    static std::optional<adaptmedseg::CancelToken> &shared_token() {
        static auto &token = *new std::optional<adaptmedseg::CancelToken>;
        return token;
    }
#endif

    adaptmedseg::CancelToken token_;
};

} // namespace cli

#endif // ADAPTMEDSEG_CLI_INTERRUPT_HPP
