// Images by ITK: a scan from any file or DICOM series it reads, a label map on the scan's grid to any file it writes.
//
// SPDX-License-Identifier: Apache-2.0

#ifndef ADAPTMEDSEG_CLI_IMAGES_HPP
#define ADAPTMEDSEG_CLI_IMAGES_HPP

#include "Failure.hpp"

#include <itkGDCMImageIO.h>
#include <itkGDCMSeriesFileNames.h>
#include <itkImage.h>
#include <itkImageFileReader.h>
#include <itkImageFileWriter.h>
#include <itkImageIOFactory.h>
#include <itkImageSeriesReader.h>
#include <itkMetaDataObject.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace cli {

namespace fs = std::filesystem;

/// The library computes in 32-bit floating point, so nothing is lost by reading that.
using Scan = itk::Image<float, 3>;
using Labels = itk::Image<unsigned char, 3>;

/// The grid of a scan: ITK's world is the library's, LPS in millimetres.
inline adaptmedseg::Geometry geometry_of(const Scan &scan) {
    adaptmedseg::Geometry geometry;
    for (unsigned axis = 0; axis < 3; ++axis) {
        geometry.size[axis] = scan.GetLargestPossibleRegion().GetSize()[axis];
        geometry.spacing[axis] = scan.GetSpacing()[axis];
        geometry.origin[axis] = scan.GetOrigin()[axis];
        for (unsigned row = 0; row < 3; ++row) geometry.direction[3 * row + axis] = scan.GetDirection()(row, axis);
    }
    return geometry;
}

namespace detail {

using Paths = std::vector<std::string>;

/// What ITK says, in one line and without where in ITK it says it.
inline std::string reason(const itk::ExceptionObject &error) {
    std::string text = error.GetDescription();
    const std::size_t prefix = text.find("): ");
    if (text.rfind("itk::ERROR", 0) == 0 && prefix != std::string::npos) text.erase(0, prefix + 3);
    std::replace(text.begin(), text.end(), '\n', ' ');
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
}

inline Failure unreadable(const std::string &path, const itk::ExceptionObject &error) {
    return {Code::content, path + ": " + reason(error), "check that the file is complete and opens in other programs"};
}

/// The DICOM series in a folder, each as its files in the order of their slices.
inline std::vector<Paths> series_in(const fs::path &folder) {
    auto names = itk::GDCMSeriesFileNames::New();
    names->SetUseSeriesDetails(true); // localisers and echoes apart, though they share a series number
    names->SetDirectory(folder.string());
    std::vector<Paths> all;
    for (const auto &identifier : names->GetSeriesUIDs()) all.push_back(names->GetFileNames(identifier));
    return all;
}

/// The only series of a folder.
inline Paths series_of_folder(const fs::path &folder) {
    auto all = series_in(folder);
    if (all.empty()) {
        throw Failure(Code::content, folder.string() + ": no DICOM series in this folder",
                      "give the folder that holds the files of one series, or an image file");
    }
    if (all.size() > 1) {
        throw Failure(Code::content,
                      folder.string() + ": " + std::to_string(all.size()) + " DICOM series in this folder",
                      "give one file of the series you want");
    }
    return all.front();
}

/// The series that a file belongs to, from its folder.
inline Paths series_of_file(const fs::path &file) {
    const auto folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
    for (auto &files : series_in(folder)) {
        const bool has = std::any_of(files.begin(), files.end(),
                                     [&](const std::string &member) { return fs::equivalent(member, file); });
        if (has) return std::move(files);
    }
    return {file.string()};
}

inline Scan::Pointer read_series(const Paths &files) {
    auto reader = itk::ImageSeriesReader<Scan>::New();
    reader->SetFileNames(files);
    reader->SetImageIO(itk::GDCMImageIO::New());
    reader->ForceOrthogonalDirectionOff(); // slices of a tilted gantry stay where they are
    try {
        reader->Update();
    } catch (const itk::ExceptionObject &error) {
        throw unreadable(files.front(), error);
    }
    Scan::Pointer scan = reader->GetOutput();
    double deviation = 0.0;
    itk::ExposeMetaData(scan->GetMetaDataDictionary(), "ITK_non_uniform_sampling_deviation", deviation);
    if (deviation > 0.01 * scan->GetSpacing()[2]) {
        throw Failure(Code::unsupported, files.front() + ": the slices of this series are not evenly spaced",
                      "slices may be missing, or the series may hold several volumes; convert it to one volume first");
    }
    return scan;
}

/// Refuses what is not one number per voxel of a volume.
inline void check_kind(const std::string &path, const itk::ImageIOBase &io) {
    const char *hint = "give a 3-D image with one value per voxel";
    if (io.GetNumberOfComponents() != 1) {
        throw Failure(Code::unsupported,
                      path + ": " + std::to_string(io.GetNumberOfComponents()) + " values per voxel", hint);
    }
    for (unsigned axis = 3; axis < io.GetNumberOfDimensions(); ++axis) {
        if (io.GetDimensions(axis) > 1) {
            throw Failure(Code::unsupported, path + ": " + std::to_string(io.GetNumberOfDimensions()) + " dimensions",
                          "take one volume of it, and give that");
        }
    }
    if (io.GetNumberOfDimensions() < 3) throw Failure(Code::unsupported, path + ": a 2-D image", hint);
}

inline itk::ImageIOBase::Pointer header_of(const std::string &path) {
    auto io = itk::ImageIOFactory::CreateImageIO(path.c_str(), itk::CommonEnums::IOFileMode::ReadMode);
    if (!io) {
        throw Failure(Code::content, path + ": not an image in a format that can be read",
                      "give a NRRD, NIfTI, MetaImage or DICOM file");
    }
    io->SetFileName(path);
    try {
        io->ReadImageInformation();
    } catch (const itk::ExceptionObject &error) {
        throw unreadable(path, error);
    }
    return io;
}

inline Scan::Pointer read_file(const std::string &path) {
    const auto io = header_of(path);
    check_kind(path, *io);
    if (dynamic_cast<const itk::GDCMImageIO *>(io.GetPointer()) != nullptr && io->GetDimensions(2) == 1) {
        const auto files = series_of_file(path);
        if (files.size() == 1) {
            throw Failure(Code::unsupported, path + ": a series of one slice", "give a file of a 3-D series");
        }
        return read_series(files);
    }
    auto reader = itk::ImageFileReader<Scan>::New();
    reader->SetFileName(path);
    reader->SetImageIO(io);
    try {
        reader->Update();
    } catch (const itk::MemoryAllocationError &) {
        throw Failure(Code::memory, path + ": too little memory to read it");
    } catch (const itk::ExceptionObject &error) {
        throw unreadable(path, error);
    }
    return reader->GetOutput();
}

inline bool close(double one, double other, double tolerance) { return std::abs(one - other) <= tolerance; }

inline bool same_place(const Labels &one, const Labels &other) {
    for (unsigned axis = 0; axis < 3; ++axis) {
        const double spacing = one.GetSpacing()[axis];
        if (!close(spacing, other.GetSpacing()[axis], 1e-4 * spacing)) return false;
        if (!close(one.GetOrigin()[axis], other.GetOrigin()[axis], 1e-3)) return false;
        for (unsigned row = 0; row < 3; ++row) {
            if (!close(one.GetDirection()(row, axis), other.GetDirection()(row, axis), 1e-4)) return false;
        }
    }
    return true;
}

} // namespace detail

/// Reads a 3-D scan from a file, one file of a DICOM series, or the folder of one.
inline Scan::Pointer read_scan(const std::string &path) {
    if (!fs::exists(path)) {
        throw Failure(Code::io, path + ": no such file or folder", "check the path");
    }
    if (!fs::is_directory(path)) {
        if (!std::ifstream(path)) {
            throw Failure(Code::io, path + ": cannot be opened", "check the permissions of the file");
        }
        return detail::read_file(path);
    }
    const auto files = detail::series_of_folder(path);
    // A single file may hold all slices.
    if (files.size() == 1) return detail::read_file(files.front());
    detail::check_kind(path, *detail::header_of(files.front()));
    return detail::read_series(files);
}

/// An empty label map where the scan is, `size` voxels wide.
inline Labels::Pointer labels_like(const Scan &scan, const Scan::SizeType &size) {
    auto labels = Labels::New();
    labels->CopyInformation(&scan);
    labels->SetRegions(Labels::RegionType(size));
    labels->Allocate(true);
    return labels;
}

inline void write(const Labels &labels, const fs::path &path) {
    auto writer = itk::ImageFileWriter<Labels>::New();
    writer->SetInput(&labels);
    writer->SetFileName(path.string());
    writer->UseCompressionOn();
    try {
        writer->Update();
    } catch (const itk::ExceptionObject &error) {
        throw Failure(Code::io, path.filename().string() + ": " + detail::reason(error),
                      "check the disk, or write another format");
    }
}

/// Writes a tiny label map where the scan is, to find out before anything is computed whether the format keeps places.
inline void rehearse(const Scan &scan, const fs::path &path) {
    const std::string name = path.filename().string();
    const char *hint = "name it .nrrd, .nii.gz or .mha";
    const auto io = itk::ImageIOFactory::CreateImageIO(name.c_str(), itk::CommonEnums::IOFileMode::WriteMode);
    // A label map is no DICOM image, and ITK may crash when it writes one.
    if (!io || dynamic_cast<const itk::GDCMImageIO *>(io.GetPointer()) != nullptr) {
        throw Failure(Code::unsupported, name + ": cannot write this format", hint);
    }
    const auto written = labels_like(scan, Scan::SizeType{{2, 2, 2}});
    auto reader = itk::ImageFileReader<Labels>::New();
    reader->SetFileName(path.string());
    try {
        write(*written, path);
        reader->Update();
    } catch (const itk::ExceptionObject &) {
        throw Failure(Code::unsupported, name + ": this format cannot hold the label map", hint);
    }
    const auto *read = reader->GetOutput();
    const bool same_size = read->GetLargestPossibleRegion() == written->GetLargestPossibleRegion();
    if (!same_size || !detail::same_place(*written, *read)) {
        throw Failure(Code::unsupported, name + ": this format cannot hold the grid of the image", hint);
    }
}

} // namespace cli

#endif // ADAPTMEDSEG_CLI_IMAGES_HPP
