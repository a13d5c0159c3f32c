// Package bench measures a real kmsd process: named scenarios, each run in rounds that
// take turns with those it is compared with, so that whatever the machine does meanwhile
// hits them all.
//
// What is compared with what is data: [Suite] lists the groups of scenarios, [Claims] the
// figures that the project holds itself to. A [Report] has every figure of a run and the
// machine it was taken on; it is written as JSON, as tables, as plots and as one page of
// HTML, and [Compare] tells two of them apart.
//
// The package starts the processes that it measures and stops them again; it must never
// measure within its own process what a user would run in another one.
package bench
