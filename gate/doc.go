// Package gate is the one way to a target.
//
// A protocol has two halves that never meet. Login holds the credential and
// never sees the client; Serve faces the client and holds a Session, which
// cannot write. To reach the target, Serve submits operations: Submit has
// policy judge each, keeps the record, waits until the record is durable, and
// only then returns a Permit; a read may overlap that wait, its answer not. A Permit sends exactly the bytes that were
// judged, once. So a protocol cannot forget to record, and cannot leak what it
// was never given.
//
// The life of an operation, and what a crash leaves after each step:
//
//  1. Submit judges it and appends the intent. Nothing was forwarded; the
//     intent, if it is on disk, has no outcome: it is shown as unsettled.
//  2. The intent is durable; the Permit exists. As above. A read, which can
//     change nothing at the target, gets its Permit before; then Answer waits
//     for this step.
//  3. Send forwards the frame. The target may have done it: unsettled. Of a
//     read the loss of power may leave nothing: nothing was changed, and
//     nothing was answered.
//  4. Answer records what came back, before the caller sees it. The same.
//  5. Settle appends the outcome, before the caller sees the answer's end.
//
// The package imports the vocabulary and the standard library only. What it
// needs of the rooms around it, it declares here as small interfaces.
package gate
