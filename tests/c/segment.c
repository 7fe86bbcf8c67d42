/* A C program that segments: prompts in every space, progress, cancellation, undo, results.
 *
 * segment MODEL SCRATCH [--object] [--cancelled-only]
 *   --object          the model is one that finds the bright ball: check that the mask is it
 *   --cancelled-only  no run to its end, for slow checkers
 */
#include "check.h"

#include <math.h>
#include <pthread.h>

typedef struct {
    int calls;
    double fraction;
    ams_cancel *cancel;  /* cancelled in the first call, if given */
    ams_session *tried;  /* used in the first call, if given: it must be busy */
    pthread_t caller;
} watch;

static void on_progress(const ams_progress *progress, void *user_data) {
    watch *seen = user_data;
    CHECK(progress->struct_size >= sizeof *progress);
    CHECK(progress->stage >= AMS_STAGE_PREPROCESS && progress->stage <= AMS_STAGE_FINISH);
    CHECK(progress->stage_name != NULL && progress->stage_name[0] != '\0');
    CHECK(progress->done <= progress->total);
    CHECK(progress->fraction >= seen->fraction - 1e-9 && progress->fraction <= 1.0 + 1e-9);
    CHECK(pthread_equal(pthread_self(), seen->caller));
    if (seen->calls++ == 0) {
        bool can = true;
        ams_cancel_cancel(seen->cancel);
        if (seen->tried != NULL)
            FAILS(AMS_STATUS_BUSY, "another thread", ams_session_can_undo(seen->tried, &can, &error));
    }
    seen->fraction = progress->fraction;
}

static watch fresh(void) {
    watch seen = {0, 0.0, NULL, NULL, pthread_self()};
    return seen;
}

static uint8_t *read_mask(ams_session *session, uint8_t label) {
    uint8_t *mask = malloc(VOXELS);
    uint64_t voxels = 0, counted = 0;
    double millilitres = 0.0;
    CHECK(mask != NULL);
    SUCCEEDS(ams_session_mask_read(session, mask, VOXELS, label, &error));
    SUCCEEDS(ams_session_mask_voxels(session, &voxels, &error));
    SUCCEEDS(ams_session_mask_volume_ml(session, &millilitres, &error));
    for (size_t index = 0; index < VOXELS; ++index) {
        CHECK(mask[index] == 0 || mask[index] == label);
        counted += mask[index] != 0;
    }
    CHECK(counted == voxels);
    CHECK(fabs(millilitres - (double)voxels * 0.75 * 1.25 * 2.0 / 1000.0) < 1e-6);
    return mask;
}

static void *cancel_it(void *token) {
    ams_cancel_cancel(token);
    return NULL;
}

static void check_cancellation(ams_session *session) {
    bool can = true;
    watch seen = fresh();
    SUCCEEDS(ams_cancel_new(&seen.cancel, &error));
    CHECK(!ams_cancel_is_cancelled(seen.cancel));
    seen.tried = session;
    FAILS(AMS_STATUS_CANCELLED, "cancelled",
          ams_session_segment(session, on_progress, &seen, seen.cancel, &error));
    CHECK(seen.calls >= 1 && ams_cancel_is_cancelled(seen.cancel));
    ams_cancel_free(seen.cancel);

    /* From another thread, before the run can end. */
    ams_cancel *cancel = NULL;
    pthread_t other;
    SUCCEEDS(ams_cancel_new(&cancel, &error));
    CHECK(pthread_create(&other, NULL, cancel_it, cancel) == 0);
    while (!ams_cancel_is_cancelled(cancel)) {
    }
    FAILS(AMS_STATUS_CANCELLED, NULL, ams_session_segment(session, NULL, NULL, cancel, &error));
    CHECK(pthread_join(other, NULL) == 0);
    ams_cancel_free(cancel);

    SUCCEEDS(ams_session_can_undo(session, &can, &error));
    CHECK(!can);
    uint64_t voxels = 0;
    FAILS(AMS_STATUS_NO_MASK, "no mask", ams_session_mask_voxels(session, &voxels, &error));
}

/* The mask for a positive point at the ball's centre, given in `space`. */
static uint8_t *mask_for_point(const ams_model *model, const ams_image *image, ams_space space) {
    const ams_image_desc desc = description(NULL);
    double position[3], lps[3];
    to_lps(&desc, BALL, lps);
    memcpy(position, space == AMS_SPACE_IJK ? BALL : lps, sizeof position);
    if (space == AMS_SPACE_RAS)
        position[0] = -lps[0], position[1] = -lps[1];
    ams_session *session = NULL;
    SUCCEEDS(ams_session_new(model, image, &session, &error));
    SUCCEEDS(ams_session_add_point(session, position, space, AMS_POINT_POSITIVE, &error));
    SUCCEEDS(ams_session_segment(session, NULL, NULL, NULL, &error));
    uint8_t *mask = read_mask(session, 1);
    ams_session_free(session);
    return mask;
}

static void check_spaces(const ams_model *model, const ams_image *image) {
    uint8_t *ijk = mask_for_point(model, image, AMS_SPACE_IJK);
    for (ams_space space = AMS_SPACE_LPS; space <= AMS_SPACE_RAS; ++space) {
        uint8_t *same = mask_for_point(model, image, space);
        CHECK(memcmp(ijk, same, VOXELS) == 0);
        free(same);
    }
    free(ijk);
}

/* Dice of the mask and the ball. */
static double dice(const uint8_t *mask) {
    double both = 0, sum = 0;
    for (int k = 0; k < NZ; ++k)
        for (int j = 0; j < NY; ++j)
            for (int i = 0; i < NX; ++i) {
                const int found = mask[i + NX * (j + NY * k)] != 0, there = in_ball(i, j, k);
                both += found && there, sum += found + there;
            }
    return 2.0 * both / sum;
}

static float *read_probabilities(ams_session *session) {
    float *probabilities = malloc(VOXELS * sizeof *probabilities);
    CHECK(probabilities != NULL);
    SUCCEEDS(ams_session_probabilities(session, probabilities, VOXELS, &error));
    return probabilities;
}

static void check_results(ams_session *session, const char *scratch, int object) {
    watch seen = fresh();
    SUCCEEDS(ams_session_segment(session, on_progress, &seen, NULL, &error));
    CHECK(seen.calls >= 2);
    uint8_t *first = read_mask(session, 1);
    if (object) {
        printf("segment: Dice %.3f with the ball\n", dice(first));
        CHECK(dice(first) > 0.9);
    }

    char *report = NULL;
    SUCCEEDS(ams_session_report(session, &report, &error));
    CHECK(report[0] == '{' && strstr(report, "\"mask_voxels\":") != NULL && strstr(report, "\"box\":") != NULL);
    ams_string_free(report);

    float *probabilities = read_probabilities(session);
    for (size_t index = 0; index < VOXELS; ++index)
        CHECK(probabilities[index] >= 0.0f && probabilities[index] <= 1.0f);

    /* A file holds what the buffer does. */
    char path[1024];
    CHECK(snprintf(path, sizeof path, "%s/mask.nii.gz", scratch) < (int)sizeof path);
    remove(path);
    SUCCEEDS(ams_session_mask_write(session, path, 0, &error));
    FAILS(AMS_STATUS_EXISTS, "exists", ams_session_mask_write(session, path, 0, &error));
    SUCCEEDS(ams_session_mask_write(session, path, 1, &error));
    ams_image *written = NULL;
    size_t size[3];
    double spacing[3];
    SUCCEEDS(ams_image_read(path, -1, &written, &error));
    SUCCEEDS(ams_image_size(written, size, &error));
    SUCCEEDS(ams_image_spacing(written, spacing, &error));
    CHECK(size[0] == NX && size[1] == NY && size[2] == NZ);
    CHECK(fabs(spacing[0] - 0.75) < 1e-5 && fabs(spacing[1] - 1.25) < 1e-5 && fabs(spacing[2] - 2.0) < 1e-5);
    ams_image_free(written);

    /* A second step, and back, and forth. */
    const double far_corner[3] = {30, 34, 38};
    bool changed = false, can = false;
    SUCCEEDS(ams_session_clear_prompts(session, &error));
    SUCCEEDS(ams_session_add_point(session, far_corner, AMS_SPACE_IJK, AMS_POINT_POSITIVE, &error));
    SUCCEEDS(ams_session_segment(session, NULL, NULL, NULL, &error));
    uint8_t *second = read_mask(session, 255);
    SUCCEEDS(ams_session_can_redo(session, &can, &error));
    CHECK(!can);
    SUCCEEDS(ams_session_undo(session, &changed, &error));
    CHECK(changed);
    uint8_t *back = read_mask(session, 1);
    CHECK(memcmp(first, back, VOXELS) == 0);
    FAILS(AMS_STATUS_INVALID_ARGUMENT, "no logits",
          ams_session_probabilities(session, probabilities, VOXELS, &error));
    SUCCEEDS(ams_session_redo(session, &changed, &error));
    CHECK(changed);
    uint8_t *forth = read_mask(session, 255);
    CHECK(memcmp(second, forth, VOXELS) == 0);
    SUCCEEDS(ams_session_redo(session, &changed, &error));
    CHECK(!changed);
    SUCCEEDS(ams_session_undo(session, NULL, &error));
    SUCCEEDS(ams_session_undo(session, &changed, &error));
    CHECK(changed);
    uint64_t voxels = 0;
    FAILS(AMS_STATUS_NO_MASK, NULL, ams_session_mask_voxels(session, &voxels, &error));
    SUCCEEDS(ams_session_undo(session, &changed, &error));
    CHECK(!changed);

    free(first), free(second), free(back), free(forth), free(probabilities);
}

/* A structure called by its name, if the model has a tokenizer. */
static void check_text(const ams_model *model, const ams_image *image) {
    ams_session *session = NULL;
    SUCCEEDS(ams_session_new(model, image, &session, &error));
    if (!ams_model_supports_text(model)) {
        FAILS(AMS_STATUS_UNSUPPORTED, "text", ams_session_set_text(session, "liver", &error));
        puts("skipped: text prompts: the model has no tokenizer");
    } else {
        char *report = NULL;
        FAILS(AMS_STATUS_INVALID_ARGUMENT, "qwxzrtpl", ams_session_set_text(session, "qwxzrtpl", &error));
        FAILS(AMS_STATUS_INVALID_ARGUMENT, "prompt", ams_session_segment(session, NULL, NULL, NULL, &error));
        SUCCEEDS(ams_session_set_text(session, "liver", &error));
        SUCCEEDS(ams_session_segment(session, NULL, NULL, NULL, &error));
        float *liver = read_probabilities(session);
        SUCCEEDS(ams_session_report(session, &report, &error));
        CHECK(strstr(report, "\"liver\"") != NULL);
        SUCCEEDS(ams_session_set_text(session, "spleen", &error));
        SUCCEEDS(ams_session_segment(session, NULL, NULL, NULL, &error));
        float *spleen = read_probabilities(session);
        /* Neither need be found in a ball, but the network must have been asked for two things. */
        CHECK(memcmp(liver, spleen, VOXELS * sizeof *liver) != 0);
        ams_string_free(report);
        free(liver), free(spleen);
    }
    ams_session_free(session);
}

static void on_message(ams_log_level level, const char *message, void *user_data) {
    CHECK(level >= AMS_LOG_ERROR && level <= AMS_LOG_INFO && message[0] != '\0');
    ++*(int *)user_data;
}

int main(int argc, char **argv) {
    CHECK(argc >= 3);
    int object = 0, cancelled_only = 0;
    for (int index = 3; index < argc; ++index) {
        object |= strcmp(argv[index], "--object") == 0;
        cancelled_only |= strcmp(argv[index], "--cancelled-only") == 0;
    }
    CHECK(ams_abi_version() == AMS_ABI_VERSION && ams_version()[0] != '\0');

    int messages = 0;
    ams_model_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.device = "cpu";
    options.threads = 2;
    options.log_level = AMS_LOG_INFO;
    options.log_callback = on_message;
    options.log_user_data = &messages;
    ams_model *model = NULL;
    SUCCEEDS(ams_model_open(argv[1], &options, &model, &error));
    CHECK(messages >= 1);
    CHECK(strcmp(ams_model_device(model), "cpu") == 0);
    CHECK(ams_model_name(model) != NULL && ams_model_license(model) != NULL);
    size_t window[3];
    SUCCEEDS(ams_model_image_size(model, window, &error));
    CHECK(window[0] > 0 && window[1] > 0 && window[2] > 0);
    char *about = NULL;
    SUCCEEDS(ams_model_describe(model, &about, &error));
    CHECK(strstr(about, ams_model_name(model)) != NULL);
    ams_string_free(about);

    ams_image *image = make_image();
    ams_session *session = NULL;
    SUCCEEDS(ams_session_new(model, image, &session, &error));
    SUCCEEDS(ams_session_set_modality(session, AMS_MODALITY_CT, &error));
    ams_memory_estimate estimate;
    estimate.struct_size = sizeof estimate;
    SUCCEEDS(ams_session_estimate_memory(session, &estimate, &error));
    CHECK(estimate.total == estimate.weights + estimate.working + estimate.cache && estimate.working > 0);

    const double low[3] = {BALL[0] - 8, BALL[1] - 8, BALL[2] - 8}, high[3] = {BALL[0] + 8, BALL[1] + 8, BALL[2] + 8};
    SUCCEEDS(ams_session_set_box(session, low, high, AMS_SPACE_IJK, &error));
    check_cancellation(session);
    if (!cancelled_only) {
        check_spaces(model, image);
        check_text(model, image);
        /* The session holds what it needs. */
        ams_model_free(model), ams_image_free(image);
        model = NULL, image = NULL;
        check_results(session, argv[2], object);
    }
    ams_session_free(session);
    ams_model_free(model);
    ams_image_free(image);
    puts("segment: passed");
    return 0;
}
