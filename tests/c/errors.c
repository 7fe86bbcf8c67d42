/* Every error a C program can provoke, with the status and the words it gets.
 *
 * errors MODEL SCRATCH [--no-run]
 */
#include "check.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>

#define INVALID(fragment, call) FAILS(AMS_STATUS_INVALID_ARGUMENT, fragment, call)

static const char *scratch;

static const char *file(const char *name) {
    static char path[1024];
    CHECK(snprintf(path, sizeof path, "%s/%s", scratch, name) < (int)sizeof path);
    return path;
}

static const char *write_file(const char *name, const void *bytes, size_t count) {
    const char *path = file(name);
    FILE *out = fopen(path, "wb");
    CHECK(out != NULL && fwrite(bytes, 1, count, out) == count && fclose(out) == 0);
    return path;
}

/* A little-endian NIfTI-1 file of bytes, with room for its voxels. */
static size_t nifti(unsigned char *bytes, const int16_t dim[8], size_t voxels) {
    const int32_t header = 348;
    const float pixdim[8] = {1, 1, 1, 1, 1, 1, 1, 1}, offset = 352;
    const int16_t type = 2, bits = 8, code = 1;
    const float rows[12] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
    memset(bytes, 0, 352 + voxels);
    memcpy(bytes, &header, 4);
    memcpy(bytes + 40, dim, 16);
    memcpy(bytes + 70, &type, 2), memcpy(bytes + 72, &bits, 2);
    memcpy(bytes + 76, pixdim, sizeof pixdim);
    memcpy(bytes + 108, &offset, 4);
    memcpy(bytes + 254, &code, 2);
    memcpy(bytes + 280, rows, sizeof rows);
    memcpy(bytes + 344, "n+1", 4);
    for (size_t index = 0; index < voxels; ++index)
        bytes[352 + index] = (unsigned char)(index % 251);
    return 352 + voxels;
}

static void files(void) {
    static unsigned char bytes[352 + 8 * 8 * 8 * 2];
    const int16_t flat[8] = {2, 8, 8, 1, 1, 1, 1, 1}, solid[8] = {3, 8, 8, 8, 1, 1, 1, 1};
    const int16_t twice[8] = {4, 8, 8, 8, 2, 1, 1, 1};
    ams_image *image = NULL;

    FAILS(AMS_STATUS_IO, "absent.nii", ams_image_read(file("absent.nii"), -1, &image, &error));
    FAILS(AMS_STATUS_FORMAT, "empty", ams_image_read(write_file("empty.nii", bytes, 0), -1, &image, &error));
    FAILS(AMS_STATUS_FORMAT, NULL, ams_image_read(write_file("no.nii.gz", "no gzip file", 12), -1, &image, &error));
    size_t count = nifti(bytes, solid, 512);
    FAILS(AMS_STATUS_FORMAT, NULL, ams_image_read(write_file("header.nii", bytes, 100), -1, &image, &error));
    FAILS(AMS_STATUS_FORMAT, NULL, ams_image_read(write_file("short.nii", bytes, count - 1), -1, &image, &error));
    FAILS(AMS_STATUS_UNSUPPORTED, NULL, ams_image_read(write_file("image.png", bytes, count), -1, &image, &error));
    INVALID("empty", ams_image_read("", -1, &image, &error));
    INVALID("path is NULL", ams_image_read(NULL, -1, &image, &error));
    INVALID("not UTF-8", ams_image_read("\xff\xfe.nii", -1, &image, &error));
    const char *good = write_file("good.nii", bytes, count);
    INVALID("out is NULL", ams_image_read(good, -1, NULL, &error));
    INVALID("channel -2", ams_image_read(good, -2, &image, &error));
    FAILS(AMS_STATUS_UNSUPPORTED, "channel 7", ams_image_read(good, 7, &image, &error));
    CHECK(image == NULL);
    SUCCEEDS(ams_image_read(good, -1, &image, &error));
    ams_image_free(image), image = NULL;

    count = nifti(bytes, flat, 64);
    FAILS(AMS_STATUS_UNSUPPORTED, "2-D", ams_image_read(write_file("flat.nii", bytes, count), -1, &image, &error));
    count = nifti(bytes, twice, 1024);
    const char *four = write_file("four.nii", bytes, count);
    FAILS(AMS_STATUS_UNSUPPORTED, "4-D", ams_image_read(four, -1, &image, &error));
    CHECK(image == NULL);
    SUCCEEDS(ams_image_read(four, 1, &image, &error));
    ams_image_free(image);
}

static void buffers(const ams_model *model) {
    int16_t *voxels = volume();
    ams_image *image = NULL;
    ams_image_desc desc;
#define WITH(change) (desc = description(voxels), (void)(change), &desc)
    INVALID("desc is NULL", ams_image_from_buffer(NULL, &image, &error));
    INVALID("out is NULL", ams_image_from_buffer(WITH(0), NULL, &error));
    INVALID("struct_size is 0", ams_image_from_buffer(WITH(desc.struct_size = 0), &image, &error));
    INVALID("struct_size is 8", ams_image_from_buffer(WITH(desc.struct_size = 8), &image, &error));
    INVALID("struct_size", ams_image_from_buffer(WITH(desc.struct_size = (size_t)-1), &image, &error));
    INVALID("data is NULL", ams_image_from_buffer(WITH(desc.data = NULL), &image, &error));
    INVALID("scalar type 0", ams_image_from_buffer(WITH(desc.scalar_type = 0), &image, &error));
    INVALID("scalar type 11", ams_image_from_buffer(WITH(desc.scalar_type = 11), &image, &error));
    INVALID("empty", ams_image_from_buffer(WITH(desc.size[1] = 0), &image, &error));
    INVALID(NULL, ams_image_from_buffer(WITH(desc.size[1] = (size_t)-1), &image, &error));
    INVALID("spacing", ams_image_from_buffer(WITH(desc.spacing[2] = 0.0), &image, &error));
    INVALID("spacing", ams_image_from_buffer(WITH(desc.spacing[0] = -1.0), &image, &error));
    INVALID("spacing", ams_image_from_buffer(WITH(desc.spacing[0] = (double)NAN), &image, &error));
    INVALID("origin", ams_image_from_buffer(WITH(desc.origin[0] = (double)INFINITY), &image, &error));
    INVALID("singular", ams_image_from_buffer(WITH(memset(desc.direction, 0, sizeof desc.direction)), &image, &error));
    INVALID("strides[1]", ams_image_from_buffer(WITH((desc.strides[0] = 2, desc.strides[2] = 2)), &image, &error));
    CHECK(image == NULL);

    /* Strides: the same image from its last voxel backwards is the mirrored one; here only that it is taken. */
    desc = description(voxels + VOXELS - 1);
    desc.strides[0] = -2, desc.strides[1] = -2 * NX, desc.strides[2] = -2 * NX * NY;
    SUCCEEDS(ams_image_from_buffer(&desc, &image, &error));
    ams_image_free(image), image = NULL;

    ams_session *session = NULL;
    for (size_t index = 0; index < VOXELS; ++index)
        voxels[index] = 3;
    SUCCEEDS(ams_image_from_buffer(WITH(0), &image, &error));
    INVALID("constant image", ams_session_new(model, image, &session, &error));
    ams_image_free(image), image = NULL;
    free(voxels);

    /* Voxels that are no numbers are replaced and counted; none at all is an error. */
    float numbers[8] = {1, 2, 3, (float)NAN, (float)INFINITY, -(float)INFINITY, 4, 5};
    memset(&desc, 0, sizeof desc);
    desc.struct_size = sizeof desc, desc.data = numbers, desc.scalar_type = AMS_SCALAR_FLOAT32;
    for (int axis = 0; axis < 3; ++axis)
        desc.size[axis] = 2, desc.spacing[axis] = 1, desc.direction[4 * axis] = 1;
    SUCCEEDS(ams_image_from_buffer(&desc, &image, &error));
    SUCCEEDS(ams_session_new(model, image, &session, &error));
    uint64_t replaced = 0;
    SUCCEEDS(ams_session_replaced_voxels(session, &replaced, &error));
    CHECK(replaced == 3);
    ams_session_free(session), session = NULL;
    ams_image_free(image), image = NULL;
    for (int index = 0; index < 8; ++index)
        numbers[index] = (float)NAN;
    SUCCEEDS(ams_image_from_buffer(&desc, &image, &error));
    INVALID("finite", ams_session_new(model, image, &session, &error));
    ams_image_free(image);
    CHECK(session == NULL);
}

static void models(const char *path) {
    ams_model *model = NULL;
    ams_model_options options;
    memset(&options, 0, sizeof options);
    INVALID("path is NULL", ams_model_open(NULL, NULL, &model, &error));
    INVALID("out is NULL", ams_model_open(path, NULL, NULL, &error));
    INVALID("struct_size is 0", ams_model_open(path, &options, &model, &error));
    options.struct_size = sizeof options + 1000;
    CHECK(options.struct_size < 4096);
    char *newer = calloc(1, options.struct_size);
    CHECK(newer != NULL);
    memcpy(newer, &options, sizeof options);
    newer[sizeof options + 3] = 1;
    FAILS(AMS_STATUS_UNSUPPORTED, "does not know", ams_model_open(path, (ams_model_options *)newer, &model, &error));
    free(newer);
    options.struct_size = sizeof options;
    options.device = "abacus";
    INVALID("abacus", ams_model_open(path, &options, &model, &error));
    options.device = NULL;
    options.precision = 99;
    INVALID("precision 99", ams_model_open(path, &options, &model, &error));
    options.precision = AMS_PRECISION_F16;
    FAILS(AMS_STATUS_UNSUPPORTED, "does not compute in f16", ams_model_open(path, &options, &model, &error));
    /* A host that was built before the field has no precision. */
    options.struct_size = offsetof(ams_model_options, precision);
    SUCCEEDS(ams_model_open(path, &options, &model, &error));
    ams_model_free(model), model = NULL;
    ams_error *ignored = NULL;
    ams_status status = ams_model_open(file("no-such-model"), NULL, &model, &ignored);
    CHECK(status == AMS_STATUS_IO || status == AMS_STATUS_FORMAT || status == AMS_STATUS_INVALID_ARGUMENT);
    CHECK(ams_error_code(ignored) == status);
    ams_error_free(ignored);
    CHECK(model == NULL);

    size_t devices = 0;
    char *about = NULL;
    SUCCEEDS(ams_device_count(&devices, &error));
    CHECK(devices >= 1);
    SUCCEEDS(ams_device_describe(0, &about, &error));
    CHECK(strstr(about, "\"name\":") != NULL);
    ams_string_free(about);
    INVALID("no device", ams_device_describe(devices, &about, &error));
    INVALID("out is NULL", ams_device_count(NULL, &error));
}

static void nulls(ams_session *session, const ams_model *model, const ams_image *image) {
    size_t sizes[3];
    double numbers[9] = {0};
    char *text = NULL;
    bool flag = false;
    uint64_t count = 0;
    uint8_t byte = 0;
    float real = 0;
    ams_session *made = NULL;
    ams_memory_estimate estimate;
    estimate.struct_size = sizeof estimate;
    INVALID("model is NULL", ams_model_describe(NULL, &text, &error));
    INVALID("model is NULL", ams_model_image_size(NULL, sizes, &error));
    INVALID("image is NULL", ams_image_size(NULL, sizes, &error));
    INVALID("image is NULL", ams_image_spacing(NULL, numbers, &error));
    INVALID("image is NULL", ams_image_origin(NULL, numbers, &error));
    INVALID("image is NULL", ams_image_direction(NULL, numbers, &error));
    INVALID("out is NULL", ams_image_direction(image, NULL, &error));
    INVALID("model is NULL", ams_session_new(NULL, image, &made, &error));
    INVALID("image is NULL", ams_session_new(model, NULL, &made, &error));
    INVALID("out is NULL", ams_session_new(model, image, NULL, &error));
    INVALID("session is NULL", ams_session_set_mode(NULL, AMS_MODE_DEFAULT, &error));
    INVALID("session is NULL", ams_session_set_modality(NULL, AMS_MODALITY_CT, &error));
    INVALID("session is NULL", ams_session_set_text(NULL, "liver", &error));
    INVALID("session is NULL", ams_session_add_point(NULL, numbers, AMS_SPACE_IJK, AMS_POINT_POSITIVE, &error));
    INVALID("position is NULL", ams_session_add_point(session, NULL, AMS_SPACE_IJK, AMS_POINT_POSITIVE, &error));
    INVALID("session is NULL", ams_session_clear_points(NULL, &error));
    INVALID("session is NULL", ams_session_set_box(NULL, numbers, numbers, AMS_SPACE_IJK, &error));
    INVALID("first is NULL", ams_session_set_box(session, NULL, numbers, AMS_SPACE_IJK, &error));
    INVALID("second is NULL", ams_session_set_box(session, numbers, NULL, AMS_SPACE_IJK, &error));
    INVALID("session is NULL", ams_session_set_box_from_mask(NULL, &byte, 1, &error));
    INVALID("mask is NULL", ams_session_set_box_from_mask(session, NULL, VOXELS, &error));
    INVALID("session is NULL", ams_session_clear_box(NULL, &error));
    INVALID("session is NULL", ams_session_clear_prompts(NULL, &error));
    INVALID("session is NULL", ams_session_segment(NULL, NULL, NULL, NULL, &error));
    INVALID("session is NULL", ams_session_undo(NULL, &flag, &error));
    INVALID("session is NULL", ams_session_redo(NULL, &flag, &error));
    INVALID("session is NULL", ams_session_can_undo(NULL, &flag, &error));
    INVALID("out is NULL", ams_session_can_undo(session, NULL, &error));
    INVALID("session is NULL", ams_session_can_redo(NULL, &flag, &error));
    INVALID("session is NULL", ams_session_estimate_memory(NULL, &estimate, &error));
    INVALID("out is NULL", ams_session_estimate_memory(session, NULL, &error));
    estimate.struct_size = 3;
    INVALID("struct_size is 3", ams_session_estimate_memory(session, &estimate, &error));
    INVALID("session is NULL", ams_session_replaced_voxels(NULL, &count, &error));
    INVALID("session is NULL", ams_session_mask_read(NULL, &byte, 1, 1, &error));
    INVALID("buffer is NULL", ams_session_mask_read(session, NULL, VOXELS, 1, &error));
    INVALID("session is NULL", ams_session_probabilities(NULL, &real, 1, &error));
    INVALID("buffer is NULL", ams_session_probabilities(session, NULL, VOXELS, &error));
    INVALID("session is NULL", ams_session_mask_write(NULL, "mask.nii", 0, &error));
    INVALID("path is NULL", ams_session_mask_write(session, NULL, 0, &error));
    INVALID("session is NULL", ams_session_mask_voxels(NULL, &count, &error));
    INVALID("session is NULL", ams_session_mask_volume_ml(NULL, numbers, &error));
    INVALID("session is NULL", ams_session_report(NULL, &text, &error));
    INVALID("out is NULL", ams_cancel_new(NULL, &error));
    CHECK(ams_session_undo(NULL, NULL, NULL) == AMS_STATUS_INVALID_ARGUMENT); /* no place for an error either */
    CHECK(text == NULL && made == NULL && !flag && count == 0);

    ams_model_free(NULL), ams_image_free(NULL), ams_session_free(NULL);
    ams_cancel_free(NULL), ams_error_free(NULL), ams_string_free(NULL);
    ams_cancel_cancel(NULL);
    CHECK(!ams_cancel_is_cancelled(NULL) && !ams_model_supports_text(NULL));
    CHECK(ams_model_name(NULL) == NULL && ams_model_license(NULL) == NULL && ams_model_device(NULL) == NULL);
    CHECK(ams_error_code(NULL) == AMS_STATUS_OK && ams_error_message(NULL)[0] == '\0' && ams_error_hint(NULL) == NULL);
    CHECK(strcmp(ams_status_name(AMS_STATUS_BUSY), "AMS_STATUS_BUSY") == 0);
    CHECK(strcmp(ams_status_name(-77), "AMS_STATUS_?") == 0);
}

static void prompts(ams_session *session, const ams_model *model) {
    const double inside[3] = {5, 5, 5}, higher[3] = {9, 9, 9}, level[3] = {9, 5, 9}, outside[3] = {500, 500, 500};
    const double odd[3] = {1, (double)NAN, 1}, edge[3] = {NX - 0.5, NY - 0.5, NZ - 0.5}, beyond[3] = {NX - 0.49, 0, 0};
    uint8_t *mask = calloc(1, VOXELS);
    CHECK(mask != NULL);
    INVALID("no prompt", ams_session_segment(session, NULL, NULL, NULL, &error));
    INVALID("mode 2", ams_session_set_mode(session, 2, &error));
    INVALID("modality -1", ams_session_set_modality(session, -1, &error));
    INVALID("space 0", ams_session_add_point(session, inside, 0, AMS_POINT_POSITIVE, &error));
    INVALID("space 99", ams_session_set_box(session, inside, higher, 99, &error));
    INVALID("label 2", ams_session_add_point(session, inside, AMS_SPACE_IJK, 2, &error));
    INVALID("outside the image", ams_session_add_point(session, outside, AMS_SPACE_IJK, AMS_POINT_POSITIVE, &error));
    INVALID("outside the image", ams_session_add_point(session, outside, AMS_SPACE_RAS, AMS_POINT_NEGATIVE, &error));
    INVALID("outside the image", ams_session_add_point(session, beyond, AMS_SPACE_IJK, AMS_POINT_POSITIVE, &error));
    INVALID("not finite", ams_session_add_point(session, odd, AMS_SPACE_LPS, AMS_POINT_POSITIVE, &error));
    INVALID("inverted", ams_session_set_box(session, higher, inside, AMS_SPACE_IJK, &error));
    INVALID("is empty", ams_session_set_box(session, inside, inside, AMS_SPACE_IJK, &error));
    INVALID("is empty", ams_session_set_box(session, inside, level, AMS_SPACE_IJK, &error));
    INVALID("outside", ams_session_set_box(session, outside, (double[3]){510, 510, 510}, AMS_SPACE_IJK, &error));
    INVALID("mask is empty", ams_session_set_box_from_mask(session, mask, VOXELS, &error));
    INVALID("voxels", ams_session_set_box_from_mask(session, mask, VOXELS - 1, &error));
    INVALID("not UTF-8", ams_session_set_text(session, "\xc3\x28", &error));
    if (!ams_model_supports_text(model))
        FAILS(AMS_STATUS_UNSUPPORTED, "text", ams_session_set_text(session, "liver", &error));
    /* None of them has left anything behind. */
    INVALID("no prompt", ams_session_segment(session, NULL, NULL, NULL, &error));

    mask[100] = 1;
    SUCCEEDS(ams_session_set_box_from_mask(session, mask, VOXELS, &error));
    SUCCEEDS(ams_session_clear_box(session, &error));
    SUCCEEDS(ams_session_add_point(session, edge, AMS_SPACE_IJK, AMS_POINT_POSITIVE, &error));
    SUCCEEDS(ams_session_clear_points(session, &error));
    SUCCEEDS(ams_session_set_text(session, NULL, &error));
    INVALID("no prompt", ams_session_segment(session, NULL, NULL, NULL, &error));

    uint64_t voxels = 7;
    double millilitres = 7;
    char *report = NULL;
    float *reals = malloc(sizeof(float) * VOXELS);
    CHECK(reals != NULL);
    FAILS(AMS_STATUS_NO_MASK, "no mask", ams_session_mask_read(session, mask, VOXELS, 1, &error));
    FAILS(AMS_STATUS_NO_MASK, "no mask", ams_session_mask_voxels(session, &voxels, &error));
    FAILS(AMS_STATUS_NO_MASK, "no mask", ams_session_mask_volume_ml(session, &millilitres, &error));
    FAILS(AMS_STATUS_NO_MASK, "no mask", ams_session_mask_write(session, file("none.nii"), 0, &error));
    FAILS(AMS_STATUS_NO_MASK, "no mask", ams_session_report(session, &report, &error));
    FAILS(AMS_STATUS_NO_MASK, "no mask", ams_session_probabilities(session, reals, VOXELS, &error));
    INVALID("buffer of 5 elements", ams_session_mask_read(session, mask, 5, 1, &error));
    INVALID("buffer of 5 elements", ams_session_probabilities(session, reals, 5, &error));
    INVALID("label 0", ams_session_mask_read(session, mask, VOXELS, 0, &error));
    CHECK(voxels == 7 && millilitres == 7 && report == NULL && mask[100] == 1);
    free(mask), free(reals);
}

/* Two threads on one session: while one runs, the other is told so, and the run is not disturbed. */
typedef struct {
    ams_session *session;
    int begun, seen;
    pthread_mutex_t lock;
    pthread_cond_t changed;
} meeting;

static void wait_for_other(const ams_progress *progress, void *user_data) {
    meeting *both = user_data;
    (void)progress;
    CHECK(pthread_mutex_lock(&both->lock) == 0);
    both->begun = 1;
    CHECK(pthread_cond_broadcast(&both->changed) == 0);
    while (!both->seen)
        CHECK(pthread_cond_wait(&both->changed, &both->lock) == 0);
    CHECK(pthread_mutex_unlock(&both->lock) == 0);
}

static void *intrude(void *user_data) {
    meeting *both = user_data;
    const double inside[3] = {5, 5, 5};
    bool flag = false;
    CHECK(pthread_mutex_lock(&both->lock) == 0);
    while (!both->begun)
        CHECK(pthread_cond_wait(&both->changed, &both->lock) == 0);
    CHECK(pthread_mutex_unlock(&both->lock) == 0);
    FAILS(AMS_STATUS_BUSY, "another thread", ams_session_segment(both->session, NULL, NULL, NULL, &error));
    FAILS(AMS_STATUS_BUSY, "another thread", ams_session_can_undo(both->session, &flag, &error));
    FAILS(AMS_STATUS_BUSY, "another thread",
          ams_session_add_point(both->session, inside, AMS_SPACE_IJK, AMS_POINT_POSITIVE, &error));
    CHECK(pthread_mutex_lock(&both->lock) == 0);
    both->seen = 1;
    CHECK(pthread_cond_broadcast(&both->changed) == 0);
    CHECK(pthread_mutex_unlock(&both->lock) == 0);
    return NULL;
}

static void busy(ams_session *session, int to_the_end) {
    meeting both = {session, 0, 0, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER};
    ams_cancel *cancel = NULL;
    pthread_t other;
    SUCCEEDS(ams_session_add_point(session, BALL, AMS_SPACE_IJK, AMS_POINT_POSITIVE, &error));
    SUCCEEDS(ams_cancel_new(&cancel, &error));
    if (!to_the_end)
        ams_cancel_cancel(cancel);
    CHECK(pthread_create(&other, NULL, intrude, &both) == 0);
    FAILS(to_the_end ? AMS_STATUS_OK : AMS_STATUS_CANCELLED, NULL,
          ams_session_segment(session, wait_for_other, &both, cancel, &error));
    CHECK(pthread_join(other, NULL) == 0);
    ams_cancel_free(cancel);
}

int main(int argc, char **argv) {
    CHECK(argc >= 3);
    scratch = argv[2];
    const int to_the_end = argc < 4 || strcmp(argv[3], "--no-run") != 0;
    ams_model *model = NULL;
    SUCCEEDS(ams_model_open(argv[1], NULL, &model, &error));
    ams_image *image = make_image();
    ams_session *session = NULL;
    SUCCEEDS(ams_session_new(model, image, &session, &error));
    files();
    buffers(model);
    models(argv[1]);
    nulls(session, model, image);
    prompts(session, model);
    busy(session, to_the_end);
    ams_session_free(session);
    ams_image_free(image);
    ams_model_free(model);
    puts("errors: passed");
    return 0;
}
