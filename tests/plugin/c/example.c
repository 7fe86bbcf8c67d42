/*
 * A plugin in C: what the contract asks for, and nothing else. Its "network" compares each voxel with those the points
 * lie in; it takes no text, no adapter, and does not learn.
 *
 *   cc -shared -fPIC -I include tests/plugin/c/example.c -o libadaptmedseg_example.so
 */
#include "adaptmedseg_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

struct ams_plugin_model {
    int threads;
};

struct ams_plugin_embedding {
    size_t size[3];
    float voxels[];
};

static ams_plugin_status fail(const ams_plugin_call *call, ams_plugin_status status, const char *message,
                              const char *hint) {
    call->fail(call, message, hint);
    return status;
}

static ams_plugin_status describe(const ams_plugin *plugin, const ams_plugin_call *call) {
    (void)plugin;
    call->text(call, "{\"name\": \"example\", \"version\": \"1.0\", \"language\": \"C\"}");
    return AMS_PLUGIN_OK;
}

static ams_plugin_status devices(const ams_plugin *plugin, const ams_plugin_call *call) {
    (void)plugin;
    call->text(call, "[{\"name\": \"example:cpu\", \"description\": \"an example\", \"memory_bytes\": null, "
                     "\"accelerator\": false}]");
    return AMS_PLUGIN_OK;
}

/* Copies the string that starts at `*text`, after its quote, and moves on behind it. */
static void take_string(const char **text, char *out, size_t room) {
    size_t used = 0;
    while (**text && **text != '"') {
        if (**text == '\\' && (*text)[1]) ++*text;
        if (used + 1 < room) out[used++] = **text;
        ++*text;
    }
    out[used] = 0;
    if (**text) ++*text;
}

/* Reads the options, a flat JSON object: names the first that is unknown or cannot be used. */
static ams_plugin_status read_options(const char *text, int *threads, const ams_plugin_call *call) {
    char key[64], value[64], message[192];
    while ((text = strchr(text, '"')) != NULL) {
        ++text;
        take_string(&text, key, sizeof key);
        text += strspn(text, " \t\r\n:");
        value[0] = 0;
        if (*text == '"') {
            ++text;
            take_string(&text, value, sizeof value);
        } else {
            snprintf(value, sizeof value, "%.*s", (int)strcspn(text, ",}"), text);
            text += strcspn(text, ",}");
        }
        if (strcmp(key, "device") == 0) {
            if (strcmp(value, "example:cpu") == 0) continue;
            snprintf(message, sizeof message, "no device \"%s\"; there is example:cpu", value);
            return fail(call, AMS_PLUGIN_INVALID_ARGUMENT, message, NULL);
        }
        if (strcmp(key, "threads") == 0) {
            *threads = atoi(value) > 0 ? atoi(value) : 1;
            continue;
        }
        if (strcmp(key, "precision") == 0) {
            if (strcmp(value, "f32") == 0) continue;
            snprintf(message, sizeof message, "example:cpu does not compute in %s", value);
            int known = strcmp(value, "bf16") == 0 || strcmp(value, "f16") == 0;
            return fail(call, known ? AMS_PLUGIN_UNSUPPORTED : AMS_PLUGIN_INVALID_ARGUMENT, message,
                        "open the model in f32");
        }
        snprintf(message, sizeof message, "unknown option \"%s\"", key);
        return fail(call, AMS_PLUGIN_INVALID_ARGUMENT, message, NULL);
    }
    return AMS_PLUGIN_OK;
}

static ams_plugin_status model_open(const ams_plugin *plugin, const char *options, const char *config,
                                    const char *tokenizer, const ams_plugin_tensor *tensors, size_t tensor_count,
                                    ams_plugin_model **out, const ams_plugin_call *call) {
    (void)plugin;
    (void)config;
    (void)tokenizer;
    int threads = 1;
    ams_plugin_status status = read_options(options, &threads, call);
    if (status != AMS_PLUGIN_OK) return status;
    if (tensor_count == 0 || tensors == NULL)
        return fail(call, AMS_PLUGIN_FORMAT, "a model without weights", NULL);
    ams_plugin_model *model = malloc(sizeof *model);
    if (!model) return fail(call, AMS_PLUGIN_OUT_OF_MEMORY, "no memory for a model", NULL);
    model->threads = threads;
    call->log(call, AMS_PLUGIN_INFO, "the example has opened a model");
    *out = model;
    return AMS_PLUGIN_OK;
}

static void model_free(ams_plugin_model *model) { free(model); }

static ams_plugin_status model_info(const ams_plugin_model *model, const ams_plugin_call *call) {
    char text[192];
    snprintf(text, sizeof text,
             "{\"engine\": \"example\", \"device\": \"example:cpu\", \"threads\": %d, \"precision\": \"f32\", "
             "\"embedding_bytes\": 262144, \"working_bytes\": 262144}",
             model->threads);
    call->text(call, text);
    return AMS_PLUGIN_OK;
}

static ams_plugin_status encode_image(const ams_plugin_model *model, const ams_plugin_tensor *window,
                                      const ams_plugin_adapter *adapter, ams_plugin_embedding **out,
                                      const ams_plugin_call *call) {
    (void)model;
    (void)adapter;
    if (window->rank != 3 || window->element != AMS_PLUGIN_FLOAT32)
        return fail(call, AMS_PLUGIN_INVALID_ARGUMENT, "a window is three axes of float32 voxels", NULL);
    size_t bytes = window->shape[0] * window->shape[1] * window->shape[2] * sizeof(float);
    ams_plugin_embedding *embedding = malloc(sizeof *embedding + bytes);
    if (!embedding) return fail(call, AMS_PLUGIN_OUT_OF_MEMORY, "no memory for a window", "close other models");
    memcpy(embedding->size, window->shape, sizeof embedding->size);
    memcpy(embedding->voxels, window->data, bytes);
    *out = embedding;
    return AMS_PLUGIN_OK;
}

static void embedding_free(ams_plugin_embedding *embedding) { free(embedding); }

/* The index of a place's voxel along an axis. */
static size_t nearest(float at, size_t size) {
    if (!(at > 0)) return 0;
    return at < (float)(size - 1) ? (size_t)(at + 0.5f) : size - 1;
}

static ams_plugin_status decode(const ams_plugin_model *model, const ams_plugin_embedding *embedding,
                                const ams_plugin_prompts *prompts, const ams_plugin_adapter *adapter,
                                const ams_plugin_context *context, const ams_plugin_call *call) {
    (void)model;
    (void)adapter;
    (void)context;
    if (prompts->point_count == 0 && !prompts->bounding_box)
        return fail(call, AMS_PLUGIN_INVALID_ARGUMENT, "decode without a prompt", NULL);
    const size_t *size = embedding->size;
    size_t count = size[0] * size[1] * size[2];
    float *logits = malloc(count * sizeof(float));
    if (!logits) return fail(call, AMS_PLUGIN_OUT_OF_MEMORY, "no memory for logits", "close other models");
    float sum = 0;
    size_t positive = 0;
    for (size_t point = 0; point < prompts->point_count; ++point) {
        const float *at = prompts->points + 3 * point;
        if (prompts->labels[point] != 1) continue;
        size_t d = nearest(at[0], size[0]), h = nearest(at[1], size[1]), w = nearest(at[2], size[2]);
        sum += embedding->voxels[(d * size[1] + h) * size[2] + w];
        ++positive;
    }
    float wanted = positive ? sum / (float)positive : 0.5f;
    for (size_t index = 0; index < count; ++index) {
        float at[3] = {(float)(index / (size[1] * size[2])), (float)(index / size[2] % size[1]), (float)(index % size[2])};
        int inside = 1;
        for (int axis = 0; prompts->bounding_box && axis < 3; ++axis)
            inside &= prompts->bounding_box[axis] <= at[axis] && at[axis] <= prompts->bounding_box[axis + 3];
        float off = embedding->voxels[index] - wanted;
        logits[index] = inside ? 1 - 25 * off * off : -10;
    }
    const float iou[1] = {0.5f};
    const size_t one[1] = {1};
    ams_plugin_tensor answer = {"logits", size, 3, AMS_PLUGIN_FLOAT32, logits};
    call->tensor(call, &answer);
    ams_plugin_tensor quality = {"iou", one, 1, AMS_PLUGIN_FLOAT32, iou};
    call->tensor(call, &quality);
    free(logits);
    return AMS_PLUGIN_OK;
}

EXPORT ams_plugin_status ams_plugin_init(uint32_t version, ams_plugin *plugin, const ams_plugin_call *call) {
    (void)call;
    if (version != AMS_PLUGIN_VERSION) return AMS_PLUGIN_NOT_IMPLEMENTED;
    plugin->describe = describe;
    plugin->devices = devices;
    plugin->model_open = model_open;
    plugin->model_free = model_free;
    plugin->model_info = model_info;
    plugin->encode_image = encode_image;
    plugin->embedding_free = embedding_free;
    plugin->decode = decode;
    return AMS_PLUGIN_OK;
}
