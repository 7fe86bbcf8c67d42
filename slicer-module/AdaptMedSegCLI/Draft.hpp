// A file that is complete or not there: written under another name beside its own, then renamed.
//
// SPDX-License-Identifier: Apache-2.0

#ifndef ADAPTMEDSEG_CLI_DRAFT_HPP
#define ADAPTMEDSEG_CLI_DRAFT_HPP

#include "Failure.hpp"

#include <algorithm>
#include <filesystem>
#include <mutex>
#include <random>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace cli {

namespace fs = std::filesystem;

/// What the system said about a file.
inline Failure file_failure(const fs::path &path, const std::error_code &error) {
    const bool absent = error == std::errc::no_such_file_or_directory;
    const bool denied = error == std::errc::permission_denied || error == std::errc::read_only_file_system;
    return {Code::io, path.string() + ": " + error.message(),
            absent   ? "check the path; a folder must exist before files are put into it"
            : denied ? "check the permissions of the file and of its folder"
                     : ""};
}

/// The temporary folders there are, to be removed however the process ends.
class Temporaries {
public:
    static void add(const fs::path &folder) {
        const std::lock_guard lock(instance().mutex_);
        instance().folders_.push_back(folder);
    }

    static void remove(const fs::path &folder) {
        const std::lock_guard lock(instance().mutex_);
        auto &folders = instance().folders_;
        folders.erase(std::remove(folders.begin(), folders.end(), folder), folders.end());
        std::error_code ignored;
        fs::remove_all(folder, ignored);
    }

    static void remove_all() {
        const std::lock_guard lock(instance().mutex_);
        std::error_code ignored;
        for (const auto &folder : instance().folders_) fs::remove_all(folder, ignored);
    }

private:
    static Temporaries &instance() {
        // Never destroyed: the thread that waits for signals may outlive main().
        static auto &temporaries = *new Temporaries;
        return temporaries;
    }

    std::mutex mutex_;
    std::vector<fs::path> folders_;
};

class Draft {
public:
    /// Makes a temporary folder beside `target`: on the same file system, where a rename is enough.
    explicit Draft(fs::path target) : target_(std::move(target)) {
        if (!target_.has_filename()) {
            throw Failure(Code::usage, target_.string() + ": not the name of a file",
                          "give the name of a file to write");
        }
        if (fs::is_directory(target_)) {
            throw Failure(Code::io, target_.string() + " is a folder", "give the name of a file to write");
        }
        std::random_device random;
        std::error_code error;
        do {
            folder_ = target_.parent_path() / (".adaptmedseg-" + std::to_string(random()));
        } while (!fs::create_directory(folder_, error) && !error);
        if (error) throw file_failure(parent(), error);
        Temporaries::add(folder_);
    }

    Draft(const Draft &) = delete;
    Draft &operator=(const Draft &) = delete;
    ~Draft() { Temporaries::remove(folder_); }

    /// Where to write for now: under its own name, because formats go by the ending.
    [[nodiscard]] fs::path path() const { return folder_ / target_.filename(); }

    /// Gives the file its name. Other files of the format, such as the voxels of a header, come first.
    void commit() {
        std::vector<fs::path> others;
        for (const auto &entry : fs::directory_iterator(folder_)) {
            if (entry.path() != path()) others.push_back(entry.path());
        }
        for (const auto &other : others) rename(other, target_.parent_path() / other.filename());
        rename(path(), target_);
    }

private:
    [[nodiscard]] fs::path parent() const { return target_.has_parent_path() ? target_.parent_path() : fs::path("."); }

    static void rename(const fs::path &from, const fs::path &to) {
        std::error_code error;
        fs::rename(from, to, error);
        if (error) throw file_failure(to, error);
    }

    fs::path target_;
    fs::path folder_;
};

} // namespace cli

#endif // ADAPTMEDSEG_CLI_DRAFT_HPP
