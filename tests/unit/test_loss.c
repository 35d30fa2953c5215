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
