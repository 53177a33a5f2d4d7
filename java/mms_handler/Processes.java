package mms_handler;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;

/** What the kernel says about this process and those of the workers. */
final class Processes {
    private Processes() {}

    /** All memory of a process; 0 if there is none. */
    static long residentBytes(int pid) {
        return bytes(pid, "status", "VmRSS:");
    }

    /**
     * The memory of a worker that its end gives back: what it was forked with, and shares with
     * others, is none of it.
     */
    static long ownBytes(int pid) {
        long bytes = bytes(pid, "smaps_rollup", "Private_Dirty:");
        return bytes > 0 ? bytes : residentBytes(pid);
    }

    /** A process's memory, with its part of what it shares with others. */
    static long proportionalBytes(int pid) {
        long bytes = bytes(pid, "smaps_rollup", "Pss:");
        return bytes > 0 ? bytes : residentBytes(pid);
    }

    private static long bytes(int pid, String file, String name) {
        try {
            Path path = Paths.get("/proc/" + pid + "/" + file);
            for (String line : Files.readAllLines(path)) {
                if (line.startsWith(name)) {
                    return Long.parseLong(line.replaceAll("\\D", "")) * 1024;
                }
            }
        } catch (IOException e) {
            Plugin.LOG.debug("no {} of process {}", file, pid);
        }
        return 0;
    }

    /** The descriptors that this process has open. */
    static int openDescriptors() {
        String[] open = new File("/proc/self/fd").list();
        return open == null ? 0 : open.length;
    }

    /** How many descriptors this process may have. */
    static int mostDescriptors() throws IOException {
        for (String line : Files.readAllLines(Paths.get("/proc/self/limits"))) {
            if (line.startsWith("Max open files")) {
                String soft = line.split(" {2,}")[1];
                return soft.equals("unlimited") ? Integer.MAX_VALUE : Integer.parseInt(soft);
            }
        }
        return 0;
    }
}
