// Package latency builds a PKCS#11 module, in C, that stands before a real one and
// delays chosen calls, so that what a service does with an HSM behind a network can be
// measured on SoftHSM2. It is for benchmarks and tests, and links neither cgo nor a test
// framework: a program that is built without cgo can build the module and start others
// with it.
//
// A delayed call takes its session for the whole delay, delays of different sessions run
// at the same time, and the real module's own time comes on top. What the model leaves
// out: bandwidth, jitter, and a device that gets slower under load.
//
// # Which calls to delay
//
// Each delayed call stands for one round trip. The default is one for each operation of
// the data path: C_Encrypt, C_Decrypt, C_Sign and C_GenerateRandom. The call that begins
// an operation (C_EncryptInit and the like) is not among them, although some client
// libraries of network HSMs send it on its own: to model such a one, name it too. A
// caller that asks for the length of the output first makes two calls, and waits twice,
// as it would with a device that answers the question itself.
//
// Whatever is in the list can be delayed, so that for example C_FindObjects or
// C_GenerateKey show what key administration costs. Everything else is as fast as the
// real module: in particular C_GetSessionInfo and C_GetTokenInfo, by which a service asks
// whether the device is there.
package latency
