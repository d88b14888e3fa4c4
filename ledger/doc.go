// Package ledger is the tamper-evident log.
//
// An entry is a leaf, one line of JSON, and an optional attachment that the
// leaf cites by digest. Append writes both to the end of a write-ahead log:
// from then on they survive the death of the process. Durable waits until
// they survive the loss of power; one fdatasync serves all who wait. That is
// the whole of what stands in the way of an operation.
//
// Behind it, a goroutine makes of the leaves a Merkle tree in tiles (C2SP
// tlog-tiles) and signs its head (C2SP tlog-checkpoint), at least once a
// second while there are new entries; another has witnesses cosign it (C2SP
// tlog-witness). Both follow the log and hold nothing of their own: what they
// make can be made again.
//
// The durable steps, and what a crash leaves after each:
//
//  1. Append writes the frame into a segment that was filled with zeros
//     beforehand. A crash of the machine leaves all of it, none, or a part:
//     Open sets a part aside and zeroes it. Nobody was told that it is durable.
//  2. Durable syncs the segment. The entry stays, whatever happens.
//  3. A full segment is synced; the spare one gets its header, is synced, and
//     is renamed to the index of its first entry. Before the rename there is a
//     spare, which Open throws away; after it, an empty segment.
//  4. Tiles are written under other names, synced and renamed. A crash leaves
//     tiles beyond the checkpoint, which are written again.
//  5. The checkpoint is replaced in one step. It covers durable entries only.
//
// When a write or a sync fails, the log refuses: see heal.go. Verify reads
// all of it as a stranger does, with public keys only. docs/formats/ledger.md
// specifies every byte.
package ledger
