package mms_handler;

/** A connection as it was at one moment.  Those that waited for their client longest come first. */
final class Candidate implements Comparable<Candidate> {
    final Phase phase;

    /** What is held for its client. */
    final long bytes;

    /** Whether its client has had an answer on it. */
    final boolean served;

    private final Connection connection;
    private final long sinceNs;

    Candidate(Connection connection, long bytes) {
        this.connection = connection;
        this.bytes = bytes;
        phase = connection.phase;
        served = connection.served;
        sinceNs = connection.sinceNs;
    }

    /** Close the connection, unless it has moved on. */
    void close(Limits limit) {
        connection.expire(limit, phase, sinceNs);
    }

    @Override
    public int compareTo(Candidate other) {
        return Long.compare(sinceNs - other.sinceNs, 0);
    }
}
