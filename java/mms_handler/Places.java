package mms_handler;

import io.netty.channel.Channel;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;

/**
 * How many connections there may be, so that the process keeps descriptors for its workers.  A new
 * connection beyond that takes the place of the one whose client was waited for longest, among those
 * that were never answered if there are such.  While none waits for its client, new ones stay in the
 * system's queue.
 */
final class Places extends ChannelInboundHandlerAdapter {
    /** Descriptors that stay free for workers, archives and logs. */
    private static final int RESERVE = 96;

    /** New connections that are accepted while others make room for them. */
    private static final int SPARE = 32;

    private static final int MIN = 16;
    private static final Set<Phase> WAITING = EnumSet.of(Phase.IDLE, Phase.HEAD, Phase.BODY);

    /** What is closed first: a client that was answered may send its next request right now. */
    private static final Comparator<Candidate> FIRST =
            Comparator.comparing((Candidate candidate) -> candidate.served)
                    .thenComparing(Comparator.naturalOrder());

    private static final long PERIOD_NS = TimeUnit.SECONDS.toNanos(5);

    private static volatile int places = Plugin.MAX_CONNECTIONS;
    private static volatile int spare = SPARE;
    private static volatile Channel listener;
    private static long measuredAtNs = System.nanoTime() - PERIOD_NS;

    /** Whether the system says how many descriptors there are. */
    private static boolean counted;

    /** The server's channel accepts a connection. */
    @Override
    public void channelRead(ChannelHandlerContext context, Object child) {
        listener = context.channel();
        context.fireChannelRead(child);
        ((Channel) child).closeFuture().addListener(closed -> update());
        if (Connection.OPEN.size() >= places) {
            makeRoom();
            update();
        }
    }

    /** Accept new connections if there is a place, or will be one soon. */
    private static void update() {
        Channel channel = listener;
        if (channel != null && channel.isActive()) {
            boolean accept = Connection.OPEN.size() < places + spare;
            if (channel.config().isAutoRead() != accept) {
                channel.config().setAutoRead(accept);
            }
        }
    }

    /** Close some, a few more than needed. */
    private static synchronized void makeRoom() {
        List<Candidate> candidates = new ArrayList<>();
        int surplus = -places;
        for (Connection connection : Connection.OPEN) {
            Candidate candidate = new Candidate(connection, 0);
            surplus += candidate.phase == Phase.CLOSING ? 0 : 1;
            if (WAITING.contains(candidate.phase)) {
                candidates.add(candidate);
            }
        }
        if (surplus >= 0) {
            candidates.sort(FIRST);
            int number = Math.min(candidates.size(), surplus + 1 + places / 32);
            candidates.subList(0, number).forEach(candidate -> candidate.close(Limits.CROWDED));
        }
    }

    /** Measure from time to time how many connections there may be; make room if some must wait. */
    static void check() {
        if (System.nanoTime() - measuredAtNs > PERIOD_NS) {
            measuredAtNs = System.nanoTime();
            int possible = descriptors();
            int most = Math.min(Plugin.MAX_CONNECTIONS, possible - RESERVE);
            places = Math.min(Math.max(MIN, most), Math.max(1, possible));
            spare = Math.min(SPARE, Math.max(0, possible - places));
        }
        if (Connection.OPEN.size() >= places + spare) {
            makeRoom();
        }
        update();
    }

    /**
     * How many descriptors connections can have; plenty where the system does not say it. To ask for
     * it takes a descriptor: if none is left, connections can have no more than they have.
     */
    private static int descriptors() {
        String[] open = new File("/proc/self/fd").list();
        try {
            for (String line : Files.readAllLines(Paths.get("/proc/self/limits"))) {
                if (open != null && line.matches("Max open files +\\d+ .*")) {
                    int limit = Integer.parseInt(line.split(" +")[3]);
                    counted = true;
                    return limit - open.length + Connection.OPEN.size();
                }
            }
        } catch (IOException | NumberFormatException e) {
            Plugin.LOG.debug("cannot read the limit of descriptors", e);
        }
        return counted ? Connection.OPEN.size() : Integer.MAX_VALUE;
    }
}
