// SPDX-License-Identifier: Apache-2.0
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * One message of the event topic, parsed by a streaming parser in one pass, and the compact form in which it travels to
 * its item:
 *
 *     action u8 | watch_ms i64, of a watch only | a tag for each bucket: length u8, dimension u8, value
 *
 * The time travels as the record's own timestamp.
 */
final class Event {
    static final List<String> ACTIONS = List.of("impression", "click", "like", "collect", "share", "comment", "follow",
            "dislike", "watch", "watch_ms");
    static final int IMPRESSION = 0, WATCH = 8, WATCH_MS = 9;
    static final int[] AGE_EDGES = {18, 25, 35, 45, 55, 65};
    static final byte GENDER = 'g', AGE = 'a', GEO = 'o';

    private static final JsonFactory JSON = new JsonFactory();
    private static final byte[] NO_REQUEST = {};

    int action = -1;
    long ts, watchMs;
    byte[] user, request = NO_REQUEST;
    final List<byte[]> items = new ArrayList<>(1);
    final List<byte[]> tags = new ArrayList<>(3);

    static Event parse(byte[] json, boolean buckets) throws IOException {
        Event e = new Event();
        try (JsonParser p = JSON.createParser(json)) {
            p.nextToken();
            for (String name; (name = p.nextFieldName()) != null;) {
                p.nextToken();
                switch (name) {
                    case "type" -> e.action = ACTIONS.indexOf(p.getText());
                    case "user_id" -> e.user = bytes(p.getText());
                    case "item_id" -> e.items.add(bytes(p.getText()));
                    case "items" -> e.parseItems(p);
                    case "request_id" -> e.request = bytes(p.getText());
                    case "timestamp" -> e.ts = p.getLongValue();
                    case "watch_ms" -> e.watchMs = p.getLongValue();
                    case "context" -> e.parseContext(p, buckets);
                    default -> p.skipChildren();
                }
            }
        }
        if (e.action < 0 || e.user == null || e.items.isEmpty() || e.ts == 0)
            throw new IOException("not an event");
        return e;
    }

    private void parseItems(JsonParser p) throws IOException {
        while (p.nextToken() == JsonToken.START_OBJECT) {
            for (String name; (name = p.nextFieldName()) != null;) {
                p.nextToken();
                if (name.equals("item_id"))
                    items.add(bytes(p.getText()));
            }
        }
    }

    private void parseContext(JsonParser p, boolean buckets) throws IOException {
        for (String name; (name = p.nextFieldName()) != null;) {
            p.nextToken();
            if (!buckets)
                continue;
            switch (name) {
                case "gender" -> tags.add(tag(GENDER, bytes(p.getText())));
                case "age" -> tags.add(new byte[] {AGE, (byte) ('0' + ageBucket(p.getIntValue()))});
                case "geo" -> tags.add(tag(GEO, bytes(p.getText())));
                default -> { }
            }
        }
    }

    static int ageBucket(int age) {
        int bucket = 0;
        while (bucket < AGE_EDGES.length && age >= AGE_EDGES[bucket])
            bucket++;
        return bucket;
    }

    private static byte[] tag(byte dimension, byte[] value) {
        byte[] tag = new byte[1 + value.length];
        tag[0] = dimension;
        System.arraycopy(value, 0, tag, 1, value.length);
        return tag;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** The key of a pair: a, a zero byte, b. */
    static byte[] pair(byte[] a, byte[] b, int offset, int length) {
        byte[] key = new byte[a.length + 1 + length];
        System.arraycopy(a, 0, key, 0, a.length);
        System.arraycopy(b, offset, key, a.length + 1, length);
        return key;
    }

    byte[] forItem() {
        int length = action == WATCH ? 9 : 1;
        int at = length;
        for (byte[] tag : tags)
            length += 1 + tag.length;
        byte[] to = new byte[length];
        to[0] = (byte) action;
        if (action == WATCH)
            Tiles.LONG.set(to, 1, watchMs);
        for (byte[] tag : tags) {
            to[at] = (byte) tag.length;
            System.arraycopy(tag, 0, to, at + 1, tag.length);
            at += 1 + tag.length;
        }
        return to;
    }
}
