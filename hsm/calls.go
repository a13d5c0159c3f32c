package hsm

// Calls counts the operations that a module was given to run since its Token was opened,
// failed and repeated ones included. What the probe at the start did is not in it.
//
// An operation is what a network HSM would be asked for once: C_EncryptInit with its
// C_Encrypt, C_DecryptInit with its C_Decrypt, C_SignInit
// with its C_Sign, or one C_GenerateRandom.
type Calls struct {
	EncryptBlocks uint64 // one for each piece that a long EncryptBlocks is cut into
	Seal          uint64 // one for each item
	Open          uint64 // one for each item
	Sign          uint64 // one for each signature, also those of batches
	MAC           uint64 // one for each tag, also those of batches
	DecryptOAEP   uint64
	Random        uint64 // one for each piece
}
