/* Checks for the C hosts: the first that fails ends the program. */
#ifndef CHECK_H
#define CHECK_H

#include "adaptmedseg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);          \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)

/* `call` names `&error` for its error. */
#define SUCCEEDS(call)                                                                       \
    do {                                                                                     \
        ams_error *error = NULL;                                                             \
        const ams_status got = (call);                                                       \
        expect(got, AMS_STATUS_OK, error, NULL, __FILE__, __LINE__);                         \
    } while (0)

/* `fragment`: something the message must say, or NULL. */
#define FAILS(status, fragment, call)                                                        \
    do {                                                                                     \
        ams_error *error = NULL;                                                             \
        const ams_status got = (call);                                                       \
        expect(got, (status), error, (fragment), __FILE__, __LINE__);                        \
    } while (0)

static inline void expect(ams_status got, ams_status wanted, ams_error *error, const char *fragment, const char *file,
                   int line) {
    const char *message = ams_error_message(error);
    if (got != wanted || (fragment != NULL && strstr(message, fragment) == NULL)) {
        fprintf(stderr, "%s:%d: %s (%s), expected %s (%s)\n", file, line, ams_status_name(got), message,
                ams_status_name(wanted), fragment == NULL ? "" : fragment);
        exit(1);
    }
    if ((got == AMS_STATUS_OK) != (error == NULL) || ams_error_code(error) != got) {
        fprintf(stderr, "%s:%d: status and error disagree\n", file, line);
        exit(1);
    }
    if (error != NULL && message[0] == '\0') {
        fprintf(stderr, "%s:%d: an error without message\n", file, line);
        exit(1);
    }
    ams_error_free(error);
}

/* A noisy volume with a bright ball of radius 7 around voxel (15, 20, 22), on an oblique, anisotropic grid. */
enum { NX = 36, NY = 40, NZ = 44, VOXELS = NX * NY * NZ };

static const double BALL[3] = {15.0, 20.0, 22.0};
static const double RADIUS = 7.0;

static inline int in_ball(int i, int j, int k) {
    const double x = i - BALL[0], y = j - BALL[1], z = k - BALL[2];
    return x * x + y * y + z * z <= RADIUS * RADIUS;
}

static inline int16_t voxel(int i, int j, int k) {
    /* Any fixed hash will do: it must not be constant, and the ball must stand out. */
    const uint32_t mixed = (uint32_t)(i * 73856093) ^ (uint32_t)(j * 19349663) ^ (uint32_t)(k * 83492791);
    return (int16_t)((in_ball(i, j, k) ? 900 : 100) + (int)(mixed % 53u));
}

static inline ams_image_desc description(const int16_t *voxels) {
    ams_image_desc desc;
    /* Columns: the axes, turned by 0.3 about S and the first two then exchanged, the third towards inferior. */
    const double c = 0.955336489125606, s = 0.29552020666133955;
    const double direction[9] = {-s, c, 0, c, s, 0, 0, 0, -1};
    memset(&desc, 0, sizeof desc);
    desc.struct_size = sizeof desc;
    desc.data = voxels;
    desc.scalar_type = AMS_SCALAR_INT16;
    desc.size[0] = NX, desc.size[1] = NY, desc.size[2] = NZ;
    desc.spacing[0] = 0.75, desc.spacing[1] = 1.25, desc.spacing[2] = 2.0;
    desc.origin[0] = 10.5, desc.origin[1] = -20.25, desc.origin[2] = 30.0;
    memcpy(desc.direction, direction, sizeof direction);
    return desc;
}

static inline int16_t *volume(void) {
    int16_t *voxels = malloc(sizeof(int16_t) * VOXELS);
    CHECK(voxels != NULL);
    for (int k = 0; k < NZ; ++k)
        for (int j = 0; j < NY; ++j)
            for (int i = 0; i < NX; ++i)
                voxels[i + NX * (j + NY * k)] = voxel(i, j, k);
    return voxels;
}

/* LPS millimetres of a voxel index. */
static inline void to_lps(const ams_image_desc *desc, const double ijk[3], double lps[3]) {
    for (int row = 0; row < 3; ++row) {
        lps[row] = desc->origin[row];
        for (int axis = 0; axis < 3; ++axis)
            lps[row] += desc->direction[3 * row + axis] * desc->spacing[axis] * ijk[axis];
    }
}

static inline ams_image *make_image(void) {
    int16_t *voxels = volume();
    const ams_image_desc desc = description(voxels);
    ams_image *image = NULL;
    SUCCEEDS(ams_image_from_buffer(&desc, &image, &error));
    free(voxels); /* copied */
    return image;
}

#endif
