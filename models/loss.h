// SPDX-License-Identifier: Apache-2.0
// Losses of a head, by its logit z: what is predicted, what is minimised, and its gradient. To add one: a row in
// models/loss.c; tests/unit/test_loss.c compares every gradient with finite differences of the loss.
#ifndef FRESHET_MODELS_LOSS_H
#define FRESHET_MODELS_LOSS_H

#include <stdint.h>

enum net_label {
    NET_LABEL_BINARY,   // 0 or 1
    NET_LABEL_FRACTION, // 0 .. 1
    NET_LABEL_NUMBER,   // from 0 on
};

struct net_loss {
    const char *name;
    const char *text; // one line for the reference
    enum net_label label;
    float (*predict)(float z);
    float (*gradient)(float z, float y); // of the loss by z
    double (*loss)(double z, double y);
};

extern const struct net_loss net_losses[];              // ends with a NULL name
const struct net_loss *net_loss_find(const char *name); // NULL: none

// A head through another: logloss of P = sigmoid(z) sigmoid(w), by the logits of both.
double net_pair_loss(double z, double w, double y);
void net_pair_gradient(float z, float w, float y, float *ret_dz, float *ret_dw);

#endif
