// SPDX-License-Identifier: Apache-2.0
#ifndef FRESHET_DAEMON_EXPLAIN_NET_H
#define FRESHET_DAEMON_EXPLAIN_NET_H

#include "base/json.h"
#include "daemon/features.h"

// Members `tables`, `inputs`, `blocks`, `heads` and `training` of the open object.
void explain_net_json(struct json *j, const struct config *config, const struct features_net *net);

#endif
