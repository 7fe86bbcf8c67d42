// The mask lands where ITK says: ITK reads the file, gives the voxels and their geometry to the library, and judges
// what comes back by the physical points of its own voxels.
//
// itk MODEL SCRATCH [--object]
//   --object  the model is one that finds the bright ball: check that the mask is it
#include "check.hpp"

#include <itkFlipImageFilter.h>
#include <itkImage.h>
#include <itkImageFileReader.h>
#include <itkImageFileWriter.h>
#include <itkImageRegionConstIteratorWithIndex.h>
#include <itkImageRegionIteratorWithIndex.h>
#include <itkMetaImageIOFactory.h>
#include <itkNiftiImageIOFactory.h>
#include <itkPermuteAxesImageFilter.h>

#include <cmath>

using namespace adaptmedseg;
using Scan = itk::Image<short, 3>;
using Labels = itk::Image<unsigned char, 3>;

/// A bright ball at a known physical place, on an oblique grid of anisotropic voxels.
static Scan::PointType centre;
static constexpr double radius = 9.0; // mm

static Scan::Pointer make_scan() {
    auto scan = Scan::New();
    scan->SetRegions(Scan::SizeType{{44, 52, 30}});
    const double spacing[3] = {0.9, 0.7, 1.6}, origin[3] = {-31.5, 12.25, 80.0};
    scan->SetSpacing(spacing);
    scan->SetOrigin(origin);
    // Turned about two axes.
    const double a = 0.35, b = -0.2, ca = std::cos(a), sa = std::sin(a), cb = std::cos(b), sb = std::sin(b);
    Scan::DirectionType direction;
    const double rows[3][3] = {{ca, -sa * cb, sa * sb}, {sa, ca * cb, -ca * sb}, {0, sb, cb}};
    for (int row = 0; row < 3; ++row)
        for (int column = 0; column < 3; ++column) direction(row, column) = rows[row][column];
    scan->SetDirection(direction);
    scan->Allocate();
    itk::ContinuousIndex<double, 3> middle;
    middle[0] = 17.0, middle[1] = 30.0, middle[2] = 13.0;
    scan->TransformContinuousIndexToPhysicalPoint(middle, centre);
    // Noise wide enough to reach above the mean of the image, as in a real scan.
    unsigned mixed = 1;
    for (itk::ImageRegionIteratorWithIndex<Scan> it(scan, scan->GetBufferedRegion()); !it.IsAtEnd(); ++it) {
        Scan::PointType point;
        scan->TransformIndexToPhysicalPoint(it.GetIndex(), point);
        mixed = mixed * 1664525u + 1013904223u;
        it.Set(static_cast<short>((point.EuclideanDistanceTo(centre) <= radius ? 900 : 100) + int(mixed >> 25)));
    }
    return scan;
}

static Geometry geometry_of(const Scan &scan) {
    Geometry geometry;
    const auto size = scan.GetLargestPossibleRegion().GetSize();
    for (unsigned axis = 0; axis < 3; ++axis) {
        geometry.size[axis] = size[axis];
        geometry.spacing[axis] = scan.GetSpacing()[axis];
        geometry.origin[axis] = scan.GetOrigin()[axis];
        for (unsigned row = 0; row < 3; ++row) geometry.direction[3 * row + axis] = scan.GetDirection()(row, axis);
    }
    return geometry;
}

static Vector lps(const Scan::PointType &point) { return {point[0], point[1], point[2]}; }
static Vector ras(const Scan::PointType &point) { return {-point[0], -point[1], point[2]}; }

/// A mask as an ITK image on the scan's grid.
static Labels::Pointer labels_of(const Scan &scan, const Mask &mask) {
    auto labels = Labels::New();
    labels->CopyInformation(&scan);
    labels->SetRegions(scan.GetLargestPossibleRegion());
    labels->Allocate();
    CHECK(mask.voxels.size() == scan.GetLargestPossibleRegion().GetNumberOfPixels());
    std::copy(mask.voxels.begin(), mask.voxels.end(), labels->GetBufferPointer());
    return labels;
}

/// The mask for a point at the middle of the ball, which ITK places in `space`.
static Labels::Pointer segment(const Model &model, const Scan &scan, Space space) {
    auto image = must(Image::from_buffer(scan.GetBufferPointer(), geometry_of(scan)));
    auto session = must(model.session(image));
    if (space == Space::ijk) {
        itk::ContinuousIndex<double, 3> index;
        CHECK(scan.TransformPhysicalPointToContinuousIndex(centre, index));
        must(session.add_point({index[0], index[1], index[2]}, space, PointLabel::positive));
    } else {
        must(session.add_point(space == Space::ras ? ras(centre) : lps(centre), space, PointLabel::positive));
    }
    return labels_of(scan, must(session.segment()));
}

/// Whether two masks, on whatever grids, mark the same physical voxels.
static bool same_places(const Labels &one, const Labels &other, std::size_t &marked) {
    marked = 0;
    for (itk::ImageRegionConstIteratorWithIndex<Labels> it(&one, one.GetBufferedRegion()); !it.IsAtEnd(); ++it) {
        Labels::PointType point;
        Labels::IndexType index;
        one.TransformIndexToPhysicalPoint(it.GetIndex(), point);
        if (!other.TransformPhysicalPointToIndex(point, index) || other.GetPixel(index) != it.Get()) return false;
        marked += it.Get();
    }
    return true;
}

/// Every order and flip of the axes shows the same patient, and must give the same mask at the same places.
static void orders(const Model &model, Scan::Pointer scan, const Labels &expected) {
    unsigned order[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int choice = 1; choice < 6; ++choice) {
        auto permute = itk::PermuteAxesImageFilter<Scan>::New();
        permute->SetInput(scan);
        permute->SetOrder(itk::PermuteAxesImageFilter<Scan>::PermuteOrderArrayType(order[choice]));
        auto flip = itk::FlipImageFilter<Scan>::New();
        flip->SetInput(permute->GetOutput());
        itk::FlipImageFilter<Scan>::FlipAxesArrayType axes;
        for (unsigned axis = 0; axis < 3; ++axis) axes[axis] = (choice >> axis & 1) != 0;
        flip->SetFlipAxes(axes);
        flip->SetFlipAboutOrigin(false);
        flip->Update();
        Scan::Pointer turned = flip->GetOutput();
        std::size_t marked = 0;
        CHECK(same_places(*segment(model, *turned, Space::lps), expected, marked));
    }
}

/// The middle of a mask, as ITK places it.
static Scan::PointType middle_of(const Labels &labels, std::size_t &marked) {
    Scan::PointType sum;
    sum.Fill(0.0);
    marked = 0;
    for (itk::ImageRegionConstIteratorWithIndex<Labels> it(&labels, labels.GetBufferedRegion()); !it.IsAtEnd(); ++it) {
        if (it.Get() == 0) continue;
        Labels::PointType point;
        labels.TransformIndexToPhysicalPoint(it.GetIndex(), point);
        for (unsigned axis = 0; axis < 3; ++axis) sum[axis] += point[axis];
        ++marked;
    }
    for (unsigned axis = 0; axis < 3; ++axis) sum[axis] /= double(marked);
    return sum;
}

static Scan::Pointer read_with_itk(const std::string &path) {
    auto reader = itk::ImageFileReader<Scan>::New();
    reader->SetFileName(path);
    reader->Update();
    return reader->GetOutput();
}

/// Boxes in every space, and the mask as a file that ITK reads.
static void boxes(const Model &model, const Scan &scan, const std::string &scratch, bool object) {
    itk::ContinuousIndex<double, 3> low, high;
    low[0] = 5, low[1] = 16, low[2] = 5, high[0] = 29, high[1] = 44, high[2] = 21;
    Scan::PointType first, second;
    scan.TransformContinuousIndexToPhysicalPoint(low, first);
    scan.TransformContinuousIndexToPhysicalPoint(high, second);
    auto image = must(Image::from_buffer(scan.GetBufferPointer(), geometry_of(scan)));

    auto session = must(model.session(image));
    must(session.set_box({low[0], low[1], low[2]}, {high[0], high[1], high[2]}, Space::ijk));
    const auto mask = must(session.segment());
    const auto labels = labels_of(scan, mask);
    if (object) {
        std::size_t marked = 0;
        const auto middle = middle_of(*labels, marked);
        const double millilitres = 4.0 / 3.0 * 3.14159265358979 * radius * radius * radius / 1000.0;
        std::printf("itk: box: middle %.2f mm from the ball's, %.2f ml of %.2f\n", middle.EuclideanDistanceTo(centre),
                    mask.volume_ml, millilitres);
        // Places are what is tested here; a small network may be off by a layer of voxels.
        CHECK(middle.EuclideanDistanceTo(centre) < 0.5 && std::abs(mask.volume_ml - millilitres) < 0.25 * millilitres);
    }

    // The box between the same two corners in millimetres has edges along the world's axes; RAS and LPS agree on it.
    auto by_lps = must(model.session(image)), by_ras = must(model.session(image));
    must(by_lps.set_box(lps(first), lps(second), Space::lps));
    must(by_ras.set_box(ras(second), ras(first), Space::ras));
    CHECK(must(by_lps.segment()).voxels == must(by_ras.segment()).voxels);

    // ITK reads the file of the mask on the scan's own grid.
    const std::string path = scratch + "/itk-mask.nii.gz";
    must(session.write_mask(path, true));
    auto reader = itk::ImageFileReader<Labels>::New();
    reader->SetFileName(path);
    reader->Update();
    const auto read = reader->GetOutput();
    CHECK(read->GetLargestPossibleRegion().GetSize() == scan.GetLargestPossibleRegion().GetSize());
    const Scan::IndexType corners[] = {{{0, 0, 0}}, {{43, 51, 29}}, {{43, 0, 10}}};
    for (const auto &corner : corners) {
        Scan::PointType ours, theirs;
        scan.TransformIndexToPhysicalPoint(corner, ours);
        read->TransformIndexToPhysicalPoint(corner, theirs);
        CHECK(ours.EuclideanDistanceTo(theirs) < 1e-3);
    }
    CHECK(std::equal(mask.voxels.begin(), mask.voxels.end(), read->GetBufferPointer()));
}

int main(int argc, char **argv) {
    CHECK(argc >= 3);
    const std::string scratch = argv[2];
    const bool object = argc > 3 && std::string(argv[3]) == "--object";
    itk::NiftiImageIOFactory::RegisterOneFactory();
    itk::MetaImageIOFactory::RegisterOneFactory();

    // Through files of both formats, so that reading is ITK's own.
    const auto made = make_scan();
    auto model = must(Model::open(argv[1]));
    Labels::Pointer expected;
    std::size_t marked = 0;
    for (const std::string name : {"/itk-scan.mha", "/itk-scan.nii.gz"}) {
        auto writer = itk::ImageFileWriter<Scan>::New();
        writer->SetFileName(scratch + name);
        writer->SetInput(made);
        writer->Update();
        const auto scan = read_with_itk(scratch + name);
        const auto labels = segment(model, *scan, Space::lps);
        if (expected) {
            CHECK(same_places(*labels, *expected, marked));
        }
        expected = labels;

        // The library's own reader agrees with ITK's on where every voxel lies.
        const auto ours = must(must(Image::read(scratch + name)).geometry());
        const auto theirs = geometry_of(*scan);
        CHECK(ours.size == theirs.size);
        for (std::size_t axis = 0; axis < 3; ++axis) {
            CHECK(std::abs(ours.spacing[axis] - theirs.spacing[axis]) < 1e-5);
            CHECK(std::abs(ours.origin[axis] - theirs.origin[axis]) < 1e-4);
        }
        for (std::size_t entry = 0; entry < 9; ++entry)
            CHECK(std::abs(ours.direction[entry] - theirs.direction[entry]) < 1e-5);
    }
    CHECK(same_places(*segment(model, *made, Space::ras), *expected, marked));
    CHECK(same_places(*segment(model, *made, Space::ijk), *expected, marked));
    const std::size_t all = made->GetLargestPossibleRegion().GetNumberOfPixels();
    std::printf("itk: %zu of %zu voxels in the mask for a point\n", marked, all);
    if (marked == 0 || marked == all) {
        std::puts("itk: skipped: a mask that is all or nothing says little about places");
    }
    orders(model, made, *expected);
    if (object) {
        const auto middle = middle_of(*expected, marked);
        std::printf("itk: point: middle %.2f mm from the ball's\n", middle.EuclideanDistanceTo(centre));
        // One point leaves the edge to the model; a mask at another place would be off by more than the ball.
        CHECK(middle.EuclideanDistanceTo(centre) < radius / 3.0);
    }
    boxes(model, *made, scratch, object);
    std::puts("itk: passed");
    return 0;
}
