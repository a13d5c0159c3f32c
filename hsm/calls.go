package hsm

// Calls counts the operations that a module was given to run since its Token was opened,
// failed and repeated ones included. What the probe at the start did is not in it.
//
// An operation is what a network HSM would be asked for once: C_EncryptInit with its
// C_Encrypt, C_DecryptInit with its C_Decrypt, or one C_GenerateRandom.
type Calls struct {
	EncryptBlocks uint64 // one for each piece that a long EncryptBlocks is cut into
	Seal          uint64 // one for each item
	Open          uint64 // one for each item
	Random        uint64 // one for each piece
}
