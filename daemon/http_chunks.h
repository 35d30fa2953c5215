// SPDX-License-Identifier: Apache-2.0
// The chunked body of HTTP/1.1, decoded as it comes, cut wherever it is cut:
//
//     SIZE in hex [;extension] CR LF   SIZE bytes   CR LF   ...   0 CR LF CR LF
#ifndef FRESHET_DAEMON_HTTP_CHUNKS_H
#define FRESHET_DAEMON_HTTP_CHUNKS_H

#include "base/buf.h"

enum http_chunks_at { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_AFTER, CHUNK_END };

struct http_chunks { // zeroed: at the begin
    enum http_chunks_at at;
    uint64_t left; // bytes of the chunk; of CHUNK_SIZE: the size so far
    uint32_t digits;
};

// Appends the data in `bytes`. 1: more is to come; 0: that was the end (what follows is not looked at); -1: malformed.
int http_chunks_decode(struct http_chunks *c, struct str bytes, struct buf *to);

#endif
