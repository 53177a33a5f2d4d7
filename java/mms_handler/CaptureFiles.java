package mms_handler;

import java.io.BufferedOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Arrays;
import java.util.Comparator;
import java.util.EnumSet;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/**
 * The files of what is captured.  One is written at a time, under a name that ends with .part; after
 * a while, or when it is large, it gets its own name.  The oldest are removed if all are too large.
 */
final class CaptureFiles {
    private static final String PREFIX = "capture-";
    private static final String END = ".jsonl";
    private static final String PART = ".part";

    /** Names are sorted by time. */
    private static final DateTimeFormatter NAME =
            DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss.SSS'Z'").withZone(ZoneOffset.UTC);

    private static final long MOST_BYTES = (long) Plugin.CAPTURE_MAX_MB << 20;

    /** A file is finished when it is so large. */
    private static final long FILE_BYTES = Math.min(8 << 20, MOST_BYTES / 4);

    private static final long FILE_NS = TimeUnit.SECONDS.toNanos(Plugin.CAPTURE_FILE_S);

    private final Path folder = Paths.get(Plugin.CAPTURE);

    /** Tells the files of several servers apart. */
    private final String server = UUID.randomUUID().toString().substring(0, 8);

    private Path part;
    private Counted out;
    private long sinceNs;

    void write(Capture capture) throws IOException {
        if (out == null) {
            open();
        }
        new CaptureLine(out).write(capture);
        if (out.bytes >= FILE_BYTES) {
            finish();
        }
    }

    /** Let readers see what is written; finish a file that is old. */
    void flush() throws IOException {
        if (out != null) {
            out.flush();
            if (System.nanoTime() - sinceNs >= FILE_NS) {
                finish();
            }
        }
    }

    private void open() throws IOException {
        String name = PREFIX + NAME.format(Instant.now()) + "-" + server + END;
        part = folder.resolve(name + PART);
        FileChannel file =
                FileChannel.open(
                        part,
                        EnumSet.of(StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE),
                        PosixFilePermissions.asFileAttribute(
                                PosixFilePermissions.fromString("rw-------")));
        lock(file);
        out = new Counted(Channels.newOutputStream(file));
        sinceNs = System.nanoTime();
    }

    /** Let servers that begin see that the file is written (left_captures.py). */
    private static void lock(FileChannel file) {
        try {
            file.tryLock();
        } catch (IOException e) {
            Plugin.LOG.debug("a file system without locks: {}", e.getMessage());
        }
    }

    /** Knows how much was written to it. */
    private static final class Counted extends BufferedOutputStream {
        private long bytes;

        Counted(OutputStream out) {
            super(out, 1 << 16);
        }

        @Override
        public synchronized void write(int c) throws IOException {
            bytes++;
            super.write(c);
        }

        @Override
        public synchronized void write(byte[] from, int at, int length) throws IOException {
            bytes += length;
            super.write(from, at, length);
        }
    }

    /** Give the file its name. */
    void finish() throws IOException {
        if (out != null) {
            OutputStream finished = out;
            out = null;
            finished.close();
            String name = part.getFileName().toString();
            Path whole = folder.resolve(name.substring(0, name.length() - PART.length()));
            Files.move(part, whole, StandardCopyOption.ATOMIC_MOVE);
            removeOldest();
        }
    }

    /** Leave room for the next file. */
    private void removeOldest() throws IOException {
        File[] all =
                folder.toFile()
                        .listFiles(
                                (parent, name) ->
                                        name.startsWith(PREFIX)
                                                && (name.endsWith(END) || name.endsWith(PART)));
        if (all == null) {
            throw new IOException("the folder cannot be read");
        }
        Arrays.sort(all, Comparator.comparing(File::getName));
        long total = FILE_BYTES;
        for (File file : all) {
            total += file.length();
        }
        for (int i = 0; i < all.length && total > MOST_BYTES; i++) {
            total -= all[i].length();
            Files.deleteIfExists(all[i].toPath());
        }
    }
}
