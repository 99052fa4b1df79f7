// Package record is what happened, read from Temporal: rounds, restores, rooms and remediations with their results, the
// ledger and the watch. It keeps no history of its own. What has ended can never change, so it is read once and kept
// while there is room; what is under way is asked each time. Everything says how old it is, and a part that cannot be
// read says why instead of failing the rest. It links no vCenter code: what it says of a VM is what was last reported.
package record
