package mms_handler;

import io.netty.util.internal.PlatformDependent;
import java.io.IOException;
import java.lang.management.BufferPoolMXBean;
import java.lang.management.GarbageCollectorMXBean;
import java.lang.management.ManagementFactory;
import java.lang.management.MemoryUsage;

/** The front end's own process, for its metrics. */
final class Jvm {
    private Jvm() {}

    static void show(Page page) {
        MemoryUsage heap = ManagementFactory.getMemoryMXBean().getHeapMemoryUsage();
        gauge(page, "jvm_heap_used_bytes", "Java's heap in use.", heap.getUsed());
        gauge(page, "jvm_heap_committed_bytes", "Java's heap as it is now.", heap.getCommitted());
        gauge(page, "jvm_heap_max_bytes", "What Java's heap may grow to.", heap.getMax());
        long direct = buffers();
        gauge(page, "jvm_buffers_used_bytes", "Memory for what is sent and received.", direct);
        long most = PlatformDependent.maxDirectMemory();
        gauge(page, "jvm_buffers_max_bytes", "What that may grow to.", most);
        page.family("jvm_gc_seconds_total", "counter", "Time in Java's garbage collectors.");
        double ms = 0;
        for (GarbageCollectorMXBean collector : ManagementFactory.getGarbageCollectorMXBeans()) {
            ms += Math.max(0, collector.getCollectionTime());
        }
        page.sample("jvm_gc_seconds_total", ms / 1000);
        int threads = ManagementFactory.getThreadMXBean().getThreadCount();
        gauge(page, "jvm_threads", "Java's threads.", threads);
        descriptors(page);
    }

    /** netty counts its own, or leaves it to Java. */
    private static long buffers() {
        long used = PlatformDependent.usedDirectMemory();
        for (BufferPoolMXBean pool : ManagementFactory.getPlatformMXBeans(BufferPoolMXBean.class)) {
            if (used < 0 && pool.getName().equals("direct")) {
                return Math.max(0, pool.getMemoryUsed());
            }
        }
        return Math.max(0, used);
    }

    private static void descriptors(Page page) {
        gauge(page, "open_fds", "Descriptors that Java has open.", Processes.openDescriptors());
        try {
            gauge(page, "max_fds", "Descriptors that Java may have.", Processes.mostDescriptors());
        } catch (IOException e) { // no descriptor is left to look
            Plugin.LOG.debug("cannot read the limit of descriptors", e);
        }
    }

    private static void gauge(Page page, String name, String help, double value) {
        page.family(name, "gauge", help);
        page.sample(name, value);
    }
}
