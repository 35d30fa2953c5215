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
//
// fraction: logloss to a label between 0 and 1, as the share of a video that was watched.
//
// watch_time: of a time t >= 0, cross-entropy of sigmoid(z) to t / (1 + t); predicted is exp(z), for the odds of
// t / (1 + t) are t (Covington et al., Deep Neural Networks for YouTube Recommendations, RecSys 2016). The gradient is
// sigmoid(z) - t / (1 + t), within -1..1 whatever t is. exp(z) is cut at 2.4e38.
//
// A pair is a head `through` another: the probability that both come, P = p q, p and q the sigmoids of their own logits
// z and w, as in ESMM (Ma et al., Entire Space Multi-Task Model, SIGIR 2018). With a = 1 - p, b = 1 - q,
//
//     1 - P = a + b - a b         without the difference of two numbers near 1
//     dL/dz = (P - y) a / (1 - P), dL/dw = (P - y) b / (1 - P)
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

static float watch_predict(float z)
{
    return expf(z > 88.37f ? 88.37f : z);
}

static double watch_odds(double t)
{
    return t / (1 + t);
}

static float watch_gradient(float z, float t)
{
    return (float)(1 / (1 + exp(-(double)z)) - watch_odds((double)t));
}

static double watch(double z, double t)
{
    return logloss(z, watch_odds(t));
}

const struct net_loss net_losses[] = {
    {"logloss", "p = sigmoid(z); cross-entropy to a label of 0..1.", NET_LABEL_BINARY, sigmoid,
     logloss_gradient, logloss},
    {"fnw", "logloss, weighted for fake negatives.", NET_LABEL_BINARY, sigmoid, fnw_gradient, fnw},
    {"fraction", "logloss to a label between 0 and 1: the share of `length` that was watched.",
     NET_LABEL_FRACTION, sigmoid, logloss_gradient, logloss},
    {"watch_time",
     "exp(z) predicts the watched time t in seconds; cross-entropy of sigmoid(z) to t / (1 + t).",
     NET_LABEL_NUMBER, watch_predict, watch_gradient, watch},
    {0},
};

const struct net_loss *net_loss_find(const char *name)
{
    for (const struct net_loss *l = net_losses; l->name != NULL; l++)
        if (strcmp(l->name, name) == 0)
            return l;
    return NULL;
}

static double log_sigmoid(double z)
{
    return (z < 0 ? z : 0) - log1p(exp(-fabs(z)));
}

double net_pair_loss(double z, double w, double y)
{
    const double a = 1 / (1 + exp(z)), b = 1 / (1 + exp(w)), both = log_sigmoid(z) + log_sigmoid(w);
    const double none = y < 1 ? (1 - y) * log(a + b - a * b) : 0;
    return -y * both - none;
}

void net_pair_gradient(float z, float w, float y, float *ret_dz, float *ret_dw)
{
    const float a = sigmoid(-z), b = sigmoid(-w), rest = a + b - a * b;
    // Of a label 0 it is P a / (1 - P), of 1 it is -a: no quotient of what may vanish.
    const float other = y < 1 ? (1 - y) * sigmoid(z) * sigmoid(w) / rest : 0;
    *ret_dz = a * (other - y);
    *ret_dw = b * (other - y);
}
