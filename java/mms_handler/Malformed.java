package mms_handler;

/** Bytes that are no request, or that two programs could read as different requests. */
final class Malformed extends Exception {
    private static final long serialVersionUID = 1L;

    /** The status to answer with. */
    final int status;

    Malformed(int status, String reason) {
        super(reason, null, false, false); // a client's mistake needs no stack trace
        this.status = status;
    }

    Malformed(String reason) {
        this(400, reason);
    }
}
