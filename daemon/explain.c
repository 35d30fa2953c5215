// SPDX-License-Identifier: Apache-2.0
// freshet explain: what the daemon makes of things, in words.
#include "daemon/commands.h"

int explain_command(struct cli *cli)
{
    const char *model = cli_value(cli, "model");
    if (model != NULL)
        return explain_model(cli, model);
    if (cli->n_args != 2)
        return cli_usage(cli, "explain takes USER ITEM, or --model NAME");
    return explain_pair(cli);
}
