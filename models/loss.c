// SPDX-License-Identifier: Apache-2.0
// logloss: p = 1 / (1 + exp(-z)), loss -y log p - (1 - y) log(1 - p). Its gradient by z is p - y, exact at both
// ends, where a loss computed from p would have lost its digits; the loss itself is
//
//     max(z, 0) - z y + log1p(exp(-|z|))
//
// without a log of 0.
//
// fnw: the fake-negative weighted loss of Ktena et al., "Addressing Delayed Feedback for Continuous Training with
// Neural Networks in CTR prediction", RecSys 2019. Every sample is trained on as a negative first; weights turn what
// is seen then into what is meant: (1 - p)(1 + p) of a negative, 1 + p of the positive that follows it, p being the
// prediction and held constant. Here a positive that follows its negative takes that back (net_run.c), and so all
// that the weights leave is the factor 1 - p^2 on logloss: (1 - p^2)(p - 1) - (1 - p^2) p = (1 + p)(p - 1). A positive
// that follows no negative, since that was not kept, has the same factor. The gradient is that of
//
//     p + p^2 / 2 - y (log p + p)
#include "models/loss.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static float sigmoid(float z)
{
    return 1 / (1 + expf(-z));
}

static float logloss_gradient(float z, float y)
{
    return sigmoid(z) - y;
}

static double logloss(double z, double y)
{
    return (z > 0 ? z : 0) - z * y + log1p(exp(-fabs(z)));
}

static float fnw_gradient(float z, float y)
{
    float p = sigmoid(z);
    return (1 - p * p) * (p - y);
}

static double fnw(double z, double y)
{
    double p = 1 / (1 + exp(-z));
    double log_p = (z < 0 ? z : 0) - log1p(exp(-fabs(z)));
    return p + p * p / 2 - y * (log_p + p);
}

const struct net_loss net_losses[] = {
    {"logloss", "p = sigmoid(z); cross-entropy to a label of 0..1.", NET_LABEL_BINARY, sigmoid,
     logloss_gradient, logloss},
    {"fnw", "logloss, weighted for fake negatives.", NET_LABEL_BINARY, sigmoid, fnw_gradient, fnw},
    {0},
};

const struct net_loss *net_loss_find(const char *name)
{
    for (const struct net_loss *l = net_losses; l->name != NULL; l++)
        if (strcmp(l->name, name) == 0)
            return l;
    return NULL;
}
