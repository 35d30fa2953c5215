// SPDX-License-Identifier: Apache-2.0
// Optimizers: one step down a gradient g, for the dense layers and for the rows of a table alike.
//
//     kind              state   step
//     rowwise_adagrad   a: 1    a += mean(g g); w -= lr g / (sqrt(a) + 1e-8)
//     adagrad           a: n    a += g g; w -= lr g / (sqrt(a) + 1e-10)
//     ftrl              z, s    s' = s + g g; z += g - w (sqrt(s') - sqrt(s)) / lr
//                               w = 0 if |z| <= l1, else -(z - sign(z) l1) / ((beta + sqrt(s')) / lr + l2)
//     adam              m, v    m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g g; with M = m / (1 - b1^t) and
//                               V = v / (1 - b2^t): w -= lr M / (sqrt(V) + 1e-8)
//
// rowwise_adagrad is for tables alone: one number a row, in the row's head (FBGEMM's EXACT_ROWWISE_ADAGRAD). adagrad is
// torch.optim.Adagrad, adam torch.optim.Adam; of a table torch.optim.SparseAdam: only rows that occur in a step change,
// t counts the steps of all, and the 1e-8 is added to sqrt(v). ftrl is FTRL-Proximal (McMahan et al., Ad Click
// Prediction, KDD 2013), by coordinate, where z begins such that w is what it begins with: from zeros on it is the
// paper's, elsewhere l1 and l2 pull towards zero all the same.
//
// Before the step, in torch's order: the gradient is clipped by its norm (torch.nn.utils.clip_grad_norm_: of all dense
// layers together, or of the row), then weight decay: g += weight_decay w, or where it is `decoupled`
// (Loshchilov, Hutter, Decoupled Weight Decay Regularization, ICLR 2019) w *= 1 - lr weight_decay. Of a table it
// comes to rows that occur. Warm-up: lr is that share of itself which the samples trained on, with this
// step's, are of `warmup`, until they are all; so a restart changes nothing. Used inside models/ and by its options.
#ifndef FRESHET_MODELS_OPTIMIZER_H
#define FRESHET_MODELS_OPTIMIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum optimizer_kind { OPTIMIZER_ADAGRAD, OPTIMIZER_FTRL, OPTIMIZER_ADAM, OPTIMIZER_ROWWISE_ADAGRAD };

struct optimizer {
    enum optimizer_kind kind;
    float lr;
    float accum;        // adagrad, ftrl: where the sums of squares begin
    float beta1, beta2; // adam
    float beta, l1, l2; // ftrl
    float weight_decay; // not of ftrl
    bool decoupled;
    float clip_norm; // the gradient's norm at most; 0: any
    uint64_t warmup; // samples; 0: none. Not of ftrl, whose z is a sum over steps of one lr
};

struct optimizer_at {
    uint64_t samples; // trained on so far, with those of this step
    uint64_t step;    // its number, from 1
};

const char *optimizer_name(enum optimizer_kind kind);
// Floats of state beside each parameter; of rowwise_adagrad none.
uint32_t optimizer_state(enum optimizer_kind kind);
// Names of these arrays, of adagrad and adam those of PyTorch; `array` is below optimizer_state. Whether its numbers are
// sums of squares, which are never below 0.
const char *optimizer_state_name(enum optimizer_kind kind, uint32_t array);
bool optimizer_state_squares(enum optimizer_kind kind, uint32_t array);

// A step that is the same for many parameters: what can be known before.
struct optimizer_step {
    enum optimizer_kind kind;
    float lr; // warmed up
    float beta1, beta2, rate, eps;
    float beta, l1, l2;
    float decay; // added to the gradient, times w
    float keep;  // times w
};
// `lr`: the optimizer's or a layer's own. `rows`: of a table.
struct optimizer_step optimizer_step_of(const struct optimizer *o, float lr, const struct optimizer_at *at,
                                        bool rows);

// State of n parameters that begin: `first` and `second` are the arrays of the table above, in its order. Not of
// rowwise_adagrad.
void optimizer_begin(const struct optimizer *o, float lr, size_t n, const float *params, float *first,
                     float *second);
// One step, weight decay and all; the gradient is clipped, and overwritten. Not of rowwise_adagrad.
void optimizer_step(const struct optimizer_step *s, size_t n, float *params, float *first, float *second,
                    float *gradient);
void optimizer_step_naive(const struct optimizer_step *s, size_t n, float *params, float *first,
                          float *second, const float *gradient);
// Weight decay alone.
void optimizer_decay(const struct optimizer_step *s, size_t n, float *params, float *gradient);

// The sum of squares, in a fixed order.
double optimizer_squares(size_t n, const float *x);
// What clips a gradient of this norm: at most 1.
float optimizer_clip(const struct optimizer *o, double norm);

// accum += g g; p -= lr g / (sqrt(accum) + 1e-10).
void optimizer_adagrad(size_t n, float *params, float *accum, const float *gradient, float lr);

#endif
