// Package keystoretest is the contract suite of kms.Store: what every implementation
// must do, on whatever database. Only tests import it.
package keystoretest
