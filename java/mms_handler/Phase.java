package mms_handler;

/** What a connection waits for; all but ANSWER depend on the client. */
enum Phase {
    /** For a request. */
    IDLE,
    /** For the rest of a head. */
    HEAD,
    /** For the rest of a body. */
    BODY,
    /** For the answer to a whole request. */
    ANSWER,
    /** For the client to take the answer. */
    REPLY,
    /** For its end. */
    CLOSING
}
