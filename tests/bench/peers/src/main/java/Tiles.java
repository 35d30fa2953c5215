// SPDX-License-Identifier: Apache-2.0
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.util.Arrays;

/**
 * All counters of one user, of one item, or of one bucket of an item, as the value of one key: cells in the order in which
 * they began,
 *
 *     slot u8 (action * 4 + window) | tile u32 (time / size) | value i64
 *
 * An event goes to the cells of the tiles of its own time, so the order in which events come changes nothing. A cell goes
 * when its slot has a tile so new that no window reaches back to it.
 */
final class Tiles {
    // 1h, 1d, 7d
    private static final long[] SIZE = {60_000, 900_000, 3_600_000};
    private static final int[] TILES = {60, 96, 168};
    private static final int CELL = 13;

    static final VarHandle INT = MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.BIG_ENDIAN);
    static final VarHandle LONG = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.BIG_ENDIAN);
    private static final byte[] NONE = {};

    private Tiles() { }

    /** A new value with `amount` added in every window. */
    static byte[] add(byte[] old, int action, long ts, long amount) {
        byte[] from = old == null ? NONE : old;
        byte[] to = Arrays.copyOf(from, from.length + SIZE.length * CELL);
        int end = from.length;
        for (int w = 0; w < SIZE.length; w++) {
            byte slot = (byte) (action * 4 + w);
            int tile = (int) (ts / SIZE[w]);
            int at = find(to, end, slot, tile);
            if (at >= 0)
                LONG.set(to, at + 5, (long) LONG.get(to, at + 5) + amount);
            else
                end = begin(to, end, slot, tile, TILES[w], amount);
        }
        return end == to.length ? to : Arrays.copyOf(to, end);
    }

    /** From the newest, since that is the one wanted nearly always. */
    private static int find(byte[] cells, int end, byte slot, int tile) {
        for (int at = end - CELL; at >= 0; at -= CELL)
            if (cells[at] == slot && (int) INT.get(cells, at + 1) == tile)
                return at;
        return -1;
    }

    private static int begin(byte[] cells, int end, byte slot, int tile, int tiles, long amount) {
        int newest = tile;
        for (int at = 0; at < end; at += CELL)
            if (cells[at] == slot)
                newest = Math.max(newest, (int) INT.get(cells, at + 1));
        int kept = 0;
        for (int at = 0; at < end; at += CELL) {
            if (cells[at] == slot && (int) INT.get(cells, at + 1) <= newest - tiles)
                continue;
            if (kept < at)
                System.arraycopy(cells, at, cells, kept, CELL);
            kept += CELL;
        }
        if (tile <= newest - tiles)
            return kept;
        cells[kept] = slot;
        INT.set(cells, kept + 1, tile);
        LONG.set(cells, kept + 5, amount);
        return kept + CELL;
    }
}
