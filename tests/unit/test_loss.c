// SPDX-License-Identifier: Apache-2.0
// Every loss: its gradient against finite differences of it, both finite far out.
#include "models/loss.h"

#include <criterion/criterion.h>
#include <math.h>

static const double labels[3][3] = {
    [NET_LABEL_BINARY] = {0, 1, 1}, [NET_LABEL_FRACTION] = {0, 0.3, 1}, [NET_LABEL_NUMBER] = {0, 0.7, 42}};

Test(loss, gradients_by_finite_differences)
{
    for (const struct net_loss *l = net_losses; l->name != NULL; l++)
        for (uint32_t i = 0; i < 3; i++)
            for (double z = -6; z <= 6; z += 0.37) {
                const double y = labels[l->label][i], h = 1e-5;
                const double slope = (l->loss(z + h, y) - l->loss(z - h, y)) / (2 * h);
                const double gradient = (double)l->gradient((float)z, (float)y);
                cr_assert(fabs(slope - gradient) < 1e-5 * fmax(1, fabs(slope)),
                          "%s at z %g, y %g: %g, not %g", l->name, z, y, gradient, slope);
            }
}

Test(loss, finite_far_out)
{
    for (const struct net_loss *l = net_losses; l->name != NULL; l++)
        for (uint32_t i = 0; i < 3; i++)
            for (double z = -80; z <= 80; z += 160) {
                const double y = labels[l->label][i];
                cr_assert(isfinite(l->loss(z, y)), "%s", l->name);
                cr_assert(isfinite(l->gradient((float)z, (float)y)) && isfinite(l->predict((float)z)), "%s",
                          l->name);
            }
}

Test(loss, names)
{
    cr_assert_eq(net_loss_find("logloss"), net_losses);
    cr_assert_null(net_loss_find("hinge"));
}

// Of both logits; the loss is that of the product.
Test(loss, pairs_by_finite_differences)
{
    const double h = 1e-5, ys[] = {0, 0.3, 1};
    for (uint32_t i = 0; i < 3; i++)
        for (double z = -6; z <= 6; z += 0.73)
            for (double w = -6; w <= 6; w += 0.71) {
                const double y = ys[i], p = 1 / (1 + exp(-z)) / (1 + exp(-w));
                const double loss = -y * log(p) - (1 - y) * log1p(-p);
                cr_assert(fabs(net_pair_loss(z, w, y) - loss) < 1e-9 * fmax(1, loss));
                float dz, dw;
                net_pair_gradient((float)z, (float)w, (float)y, &dz, &dw);
                double by_z = (net_pair_loss(z + h, w, y) - net_pair_loss(z - h, w, y)) / (2 * h);
                double by_w = (net_pair_loss(z, w + h, y) - net_pair_loss(z, w - h, y)) / (2 * h);
                cr_assert(fabs(by_z - (double)dz) < 1e-5 && fabs(by_w - (double)dw) < 1e-5,
                          "z %g, w %g, y %g", z, w, y);
            }
}

Test(loss, pairs_finite_far_out)
{
    for (uint32_t i = 0; i < 8; i++) {
        const float z = i & 1 ? 80.f : -80.f, w = i & 2 ? 80.f : -80.f, y = i & 4 ? 1.f : 0.f;
        float dz, dw;
        net_pair_gradient(z, w, y, &dz, &dw);
        cr_assert(isfinite(dz) && isfinite(dw) && isfinite(net_pair_loss((double)z, (double)w, (double)y)));
    }
}

// Trained to t / (1 + t), exp(z) is t.
Test(loss, watch_time_predicts_the_time)
{
    const struct net_loss *l = net_loss_find("watch_time");
    for (float t = 0.01f; t < 1000; t *= 3) {
        cr_assert(fabsf(l->predict(logf(t)) / t - 1) < 1e-5f);
        cr_assert(fabsf(l->gradient(logf(t), t)) < 1e-6f);
    }
}
