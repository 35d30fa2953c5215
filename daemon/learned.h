// SPDX-License-Identifier: Apache-2.0
// What scores depend on beside rows, dense layers and the config, and that the stream taught: the edges of
// {quantiles: N} (features_quantiles.c) and the means by length (norms.h). A version has it whole. It leaves as tensors:
// in the LEARNED of its delta, and in the file of a model (model_file.h):
//
//     quantiles.<feature>.<N>            F64   (n) the edges, ascending; n at most N - 1
//     norms.<head>.<length>.sum          F64   (34) labels by bucket of norms.h, <length> being the feature
//     norms.<head>.<length>.samples      F64   (34) samples by bucket
//
// A mean is sent as the two that it is made of, so that training goes on from them.
#ifndef FRESHET_DAEMON_LEARNED_H
#define FRESHET_DAEMON_LEARNED_H

#include "daemon/model_file.h"
#include "daemon/norms.h"
#include "daemon/tensors.h"
#include "models/safetensors.h"

enum { LEARNED_MAX = CONFIG_FEATURES_MAX + 2 * CONFIG_HEADS_MAX };

struct learned_tensor {
    char name[MODEL_FILE_NAME];
    uint32_t n;
    const double *data;
};

// At most LEARNED_MAX of them, in the order of the config; the data are those of the arguments. Of the version that
// `coming` makes, or NULL: of the one that stands.
uint32_t learned_tensors(const struct features *f, const struct config *config,
                         const struct quantiles *coming, const struct norms *norms,
                         struct learned_tensor *ret_tensors);
// The same as a safetensors document; appends nothing where there is none.
void learned_put(const struct features *f, const struct config *config, const struct quantiles *coming,
                 const struct norms *norms, struct buf *to);
struct safetensor learned_head(const struct learned_tensor *t);

// From a file: what it has of these goes into *norms and *quantiles (features_quantiles_set), and is marked as taken.
// ERR_INVALID, ERR_NUMERIC.
int learned_read(const struct tensors *file, const struct config *config, struct norms *norms,
                 struct quantiles **quantiles, struct err *err);

#endif
